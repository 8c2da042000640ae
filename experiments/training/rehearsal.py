"""Test before training what would otherwise fail only after it."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.errors import UserError
from experiments.metrics.scores import Scores
from experiments.report.results import save_results
from experiments.tasks.classification import Classification
from experiments.training.inspection import last_events
from experiments.training.trial_step import try_step

_EVENTS = 4
_JETS_PER_CLASS = 16
_ADVICE = {
    "'fused' optimizer": " Set optimizer.fused=false, or trainer.gradient_clip_val=null",
    "Gradient Clipping": "; leave out trainer.gradient_clip_val",
}
"""Advice by words in Lightning's message."""
_SPLITS = (
    ("val", "validation", "no weights could be told to be the best", "data.eval_limit"),
    ("train", "training", "nothing could be learned of them", "data.limit"),
)


def rehearse(cfg: DictConfig, task: Classification, datamodule: Any, device: torch.device) -> None:
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
    _check_classes(task, datamodule)
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


def _check_classes(task: Classification, datamodule: Any) -> None:
    """Check that training, validation and test samples have jets of every class."""
    classes = task.spec.classes
    if len(set(classes)) < len(classes):
        raise UserError(f"classes need different names, not {', '.join(classes)}")
    if not hasattr(datamodule, "absent_classes"):
        return
    for split, name, why, limit in _SPLITS:
        if absent := datamodule.absent_classes(split):
            raise UserError(
                f"{datamodule.path}: the {name} sample has no jets of {', '.join(absent)}, so "
                f"that {why}; take more of it ({limit}) or another sample"
            )
    if absent := datamodule.absent_classes("test"):
        warnings.warn(
            f"the test sample has no jets of {', '.join(absent)}; AUC and rejections will be "
            "undefined",
            stacklevel=2,
        )


def _report(cfg: DictConfig, task: Classification, folder: Path) -> None:
    outputs, classes = task.spec.num_outputs, len(task.spec.classes)
    jets = _JETS_PER_CLASS * classes
    generator = torch.Generator().manual_seed(0)
    shape = (jets,) if outputs == 1 else (jets, outputs)
    scores = Scores(
        torch.randn(shape, generator=generator),
        torch.arange(jets) % classes,
        100 * torch.rand(jets, generator=generator),
    )
    metrics = {**task.metrics_of(scores), "data": str(cfg.data.path)}
    save_results(folder, cfg, metrics, scores, task.spec.classes, task.background)
