"""Try before training what would otherwise fail only after it."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.errors import UserError
from experiments.inspection import last_events
from experiments.report.results import save_results
from experiments.tasks.classification import Classification
from experiments.tasks.scores import Scores

_EVENTS = 4
_JETS_PER_CLASS = 16


def rehearse(cfg: DictConfig, task: Classification, datamodule: Any, device: torch.device) -> None:
    """Take a step and write a report, both of next to nothing, and leave no trace.

    Parameters
    ----------
    cfg
        Configuration of the run.
    task, datamodule
        Newly made.
    device
        That will train.

    Raises
    ------
    UserError
        If training, test or report of the run would fail; the message says where and why.
    """
    _check_classes(task, datamodule)
    if not hasattr(task.model, "fit"):
        with _named("a training step on a few jets"):
            _step(task, datamodule, device)
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
        if not isinstance(error, (UserError, ValueError)):
            text = f"{type(error).__name__}: {text}"
        raise UserError(f"{what} failed before training: {text}") from error


def _check_classes(task: Classification, datamodule: Any) -> None:
    """See that validation and test have jets of every class."""
    classes = task.spec.classes
    if len(set(classes)) < len(classes):
        raise UserError(f"classes need different names, not {', '.join(classes)}")
    if not hasattr(datamodule, "absent_classes"):
        return
    if absent := datamodule.absent_classes("val"):
        raise UserError(
            f"the validation sample has no jets of {', '.join(absent)}, so that no weights could "
            "be told to be the best; take more of it (data.eval_limit) or another sample"
        )
    if absent := datamodule.absent_classes("test"):
        warnings.warn(
            f"the test sample has no jets of {', '.join(absent)}; AUC and rejections will be "
            "undefined",
            stacklevel=2,
        )


def _step(task: Classification, datamodule: Any, device: torch.device) -> None:
    batch = last_events(next(iter(datamodule.test_dataloader())), _EVENTS).to(device)
    model, home = task.model, task.device
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(), _uncompiled(model):
        model.to(device)
        try:
            logits = task.checked(model(batch), batch)
            task.loss_of(logits, batch).backward()
            with torch.no_grad():
                model.eval()
                task.checked(model(batch), batch)
        finally:
            model.train()
            model.zero_grad(set_to_none=True)
            model.to(home)
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    if name in buffers:
                        buffer.copy_(buffers[name])


def _uncompiled(model: torch.nn.Module) -> AbstractContextManager[None]:
    """Run compiled networks as they are: for a few jets, minutes of compilation are too much."""
    if any(getattr(module, "_compiled", None) is not None for module in model.modules()):
        stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


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
    metrics = task.metrics_of(scores)
    save_results(folder, cfg, metrics, scores, task.spec.classes, task.background)
