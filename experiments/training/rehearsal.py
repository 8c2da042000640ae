"""Test before training what would otherwise fail only after it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.errors import UserError
from experiments.report.results import save_results
from experiments.tasks.base import Task
from experiments.training.inspection import last_events
from experiments.training.trial_step import try_step

_EVENTS = 4
_ADVICE = {
    "'FlowState' object": "; this model generates no events: choose one that ends in _flow",
    "'fused' optimizer": " Set optimizer.fused=false, or trainer.gradient_clip_val=null",
    "Gradient Clipping": "; leave out trainer.gradient_clip_val",
    "file write failed": (  # HDF5
        "; make room where temporary files are written, or name another folder by TMPDIR"
    ),
}
"""Advice by words in Lightning's message."""


def rehearse(cfg: DictConfig, task: Task[Any], datamodule: Any, device: torch.device) -> None:
    """Take one step on a few jets and write a report of random scores, without side effects.

    Parameters
    ----------
    cfg
        Configuration of the run.
    task, datamodule
        Newly built.
    device
        Device of the training.

    Raises
    ------
    UserError
        If training, test or report of the run would fail; the message says where and why.
    """
    task.check_data(datamodule)
    if not hasattr(task.model, "fit"):
        with _named("a training step on a few jets"):
            batch = last_events(next(iter(datamodule.test_dataloader())), _EVENTS)
            try_step(cfg, task, batch, device)
    with _named("a report on made-up scores"), tempfile.TemporaryDirectory() as folder:
        _report(cfg, task, Path(folder))


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and str(error.filename).startswith(tempfile.gettempdir()):
            raise UserError(
                f"{tempfile.gettempdir()}: {error.strerror}, where a report was written on trial; "
                "make room for files there, or name another folder by TMPDIR"
            ) from error
        if not isinstance(error, (UserError, ValueError)):
            text = f"{type(error).__name__}: {text}"
        advice = next((more for sign, more in _ADVICE.items() if sign in text), "")
        raise UserError(f"{what} failed before training: {text}{advice}") from error


def _report(cfg: DictConfig, task: Task[Any], folder: Path) -> None:
    made_up = task.made_up()
    metrics = {**task.metrics_of(made_up), "data": str(cfg.data.path)}
    save_results(folder, cfg, metrics, task, made_up, trial=True)
