"""Refuse to restart a run whose checkpoints were lost."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from experiments.errors import UserError
from experiments.saved_runs import run_directory
from experiments.saved_runs.curves import read_rows
from experiments.saved_runs.metrics_file import read_metrics
from experiments.saved_runs.saved_config import read_resumes


def check_nothing_saved(cfg: DictConfig, directory: Path, longer: bool) -> None:
    """Refuse to restart a run whose checkpoints were lost.

    Parameters
    ----------
    cfg, directory
        Configuration and directory of a run without checkpoint.
    longer
        Whether it is to train longer than before.

    Raises
    ------
    UserError
        If it has results, was resumed, or has curves beyond its first checkpoint.
    """
    metrics = directory / run_directory.METRICS
    steps = [entry.get("from_step", 0) for entry in read_resumes(directory)]
    if metrics.is_file():
        if not longer:
            return  # finished, and not to be changed
        steps.append(read_metrics(metrics, ("steps",))["steps"])
    interval = OmegaConf.select(cfg, "callbacks.last.every_n_train_steps")
    logged = [int(row["step"]) for row in read_rows(directory / "logs" / "csv")]
    # A run killed before its first checkpoint starts again.
    steps += [step for step in logged if interval and step >= interval]
    if done := max(steps, default=0):
        raise UserError(
            f"{directory}: has done {done} steps, and {run_directory.LAST} is missing; restore it "
            "from a copy, or start a new run"
        )
