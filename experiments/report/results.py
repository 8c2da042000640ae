"""Write all results of a run after its test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data.atomic import write_text
from experiments.metrics.scores import Scores
from experiments.plots import curves, tagging
from experiments.report.html import write_report
from experiments.saved_runs import run_directory
from experiments.saved_runs.curves import read_curves


def save_results(
    directory: Path,
    cfg: DictConfig,
    results: Mapping[str, Any],
    scores: Scores,
    classes: Sequence[str],
    background: str | None,
) -> None:
    """Write scores, plots, the report, and ``metrics.json``.

    Parameters
    ----------
    directory, cfg
        Directory and configuration of the run.
    results
        Content of ``metrics.json``.
    scores
        Scores of the test.
    classes, background
        Names of the classes, and of the one that others are discriminated from, if any.
    """
    scores.save(directory / run_directory.SCORES, classes)
    plots = directory / "plots"
    tagging.plot_all(scores, classes, background, plots)
    history = read_curves(directory / "logs" / "csv")
    curves.plot_loss(history, plots)
    curves.plot_learning_rate(history, plots)
    write_report(directory, cfg.published, dict(results), OmegaConf.to_yaml(cfg, resolve=True))
    # Last, so that a directory with metrics.json is a complete run.
    write_text(directory / run_directory.METRICS, json.dumps(results, indent=2) + "\n")
