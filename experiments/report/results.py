"""Write all results of a run after its test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data.atomic import write_text
from experiments.metrics.headline import headline
from experiments.plots import curves
from experiments.plots.style import FORMATS, saved_as
from experiments.report.html import write_report
from experiments.saved_runs import run_directory
from experiments.saved_runs.curves import read_curves
from experiments.tasks.base import R, Task


def save_results(
    directory: Path,
    cfg: DictConfig,
    results: Mapping[str, Any],
    task: Task[R],
    kept: R,
    trial: bool = False,
) -> None:
    """Write what was kept of the test, plots, the report, and ``metrics.json``.

    Parameters
    ----------
    directory, cfg
        Directory and configuration of the run.
    results
        Content of ``metrics.json``.
    task, kept
        The task, and what it kept of the test.
    trial
        Whether plots are laid out without being written.
    """
    task.save(kept, directory)
    # Runs of earlier versions have no such option.
    formats = FORMATS if cfg.get("plots") is None else cfg.plots
    if formats:
        with saved_as(() if trial else formats):
            _draw(directory, results, task, kept)
    about = {
        "model": type(task.model).__name__, "name": str(cfg.name), "question": task.question,
    }  # fmt: skip
    text = OmegaConf.to_yaml(cfg, resolve=True)
    images = directory / "plots" if "png" in formats else None
    write_report(directory, cfg.published, dict(results), text, about, images)
    # Last, so that a directory with metrics.json is a complete run.
    write_text(directory / run_directory.METRICS, json.dumps(results, indent=2) + "\n")


def _draw(directory: Path, results: Mapping[str, Any], task: Task[R], kept: R) -> None:
    plots = directory / "plots"
    task.draw(kept, plots)
    history = read_curves(directory / "logs" / "csv")
    figure = headline(results)
    curves.plot_loss(history, plots)
    curves.plot_learning_of_run(history, f"val/{figure.logged}", figure.logged_label, plots)
    curves.plot_learning_rate(history, plots)
