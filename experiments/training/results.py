"""Gather the content of ``metrics.json`` of a finished run."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from data.atomic import write_text
from experiments.data.batch import EventBatch
from experiments.saved_runs import run_directory
from experiments.tasks.base import Task
from experiments.training.callbacks.throughput import JetsPerSecond
from experiments.training.inspection import flops_per_event, last_events, peak_memory, symmetry

_Measured = TypeVar("_Measured")
_VERSIONS = ("lgatr", "torch", "lightning", "xformers", "hydra-core", "numpy", "h5py")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _pattern(cfg: DictConfig, name: str) -> str | None:
    """The mask or score that attention has, with its options, or None."""
    chosen = cfg.attention.get(name)
    if chosen is None:
        return None
    kind = str(chosen["_target_"]).rpartition(".")[2]
    options = ", ".join(f"{k}={v}" for k, v in chosen.items() if k != "_target_")
    return f"{kind}({options})"


def _typical(loader: Any) -> EventBatch:
    """The middle batch if jets are sorted by length, else the first."""
    try:
        middle = len(loader) // 2
    except TypeError:
        middle = 0
    batch: EventBatch = next(islice(loader, middle, None))
    return batch


def _inspected(
    task: Task[Any], datamodule: Any, directory: Path, device: torch.device
) -> dict[str, Any]:
    """Symmetry, operations and memory; writes the table of symmetries to ``symmetry.txt``."""
    found: dict[str, Any] = {"peak_memory_gb": peak_memory(device)}
    if hasattr(task.model, "fit"):
        return found  # trees have no gradients and no matrix products
    batch = last_events(_typical(datamodule.test_dataloader()), 8).to(device)
    model = task.model.to(device)
    found["flops_at_particles"] = batch.packing.num_tokens / len(batch)
    # Before the symmetry test, which copies the model to float64.
    given = task.presented(batch)
    found["flops_per_jet"] = _attempt(
        "operations", lambda: flops_per_event(model, given, task.raw_outputs)
    )
    if not task.has_invariant_outputs:
        return {**found, "symmetry": None}
    prepare: Any = getattr(datamodule, "prepare", None)
    features, few = getattr(prepare, "features", ()), last_events(batch, 4)
    symmetries = _attempt("symmetry", lambda: symmetry(model, few, features))
    if symmetries is not None:
        write_text(directory / run_directory.SYMMETRY, f"{symmetries}\n")
    return {**found, "symmetry": None if symmetries is None else symmetries.symmetry}


def _name_of_best(best: ModelCheckpoint | None, task: Task[Any]) -> str:
    """Name of the best validation, by what chose the weights; a search goes by the headline."""
    monitor = (
        f"val/{task.headline.logged}" if best is None or best.monitor is None else best.monitor
    )
    return "best_" + monitor.replace("/", "_")


def _attempt(what: str, measure: Callable[[], _Measured]) -> _Measured | None:
    """Call ``measure``; return None with a warning if it fails.

    A model of a user that cannot be measured must not lose the results of its test.
    """
    try:
        return measure()
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        warnings.warn(f"{what} could not be measured ({reason})", stacklevel=2)
        return None


def gather(
    cfg: DictConfig,
    task: Task[Any],
    trainer: Trainer,
    datamodule: Any,
    directory: Path,
    seconds: float,
    revision: str,
) -> dict[str, Any]:
    """Gather metrics, costs and versions, on the first process.

    Parameters
    ----------
    cfg, directory
        Configuration and directory of the run.
    task, trainer, datamodule
        As they are after the test.
    seconds
        Duration of the training since it was started or resumed.
    revision
        Git revision of the code that trained.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    measured = next((c for c in callbacks if isinstance(c, JetsPerSecond)), None)
    best = next((c for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor), None)
    score = None if best is None else best.best_model_score
    return {
        **task.test_metrics,
        _name_of_best(best, task): None if score is None else float(score),
        **_inspected(task, datamodule, directory, trainer.strategy.root_device),
        "headline": task.headline.noted(),
        "parameters": sum(p.numel() for p in task.parameters() if p.requires_grad),
        "jets_per_second": measured and measured.rate,
        "waiting_for_data": measured and measured.waiting,
        "training_seconds": seconds + (measured.before if measured else 0.0),
        "steps": trainer.global_step,
        "jets": datamodule.num_jets(),
        **({"skipped": datamodule.skipped()} if hasattr(datamodule, "skipped") else {}),
        "data": getattr(datamodule, "source", str(cfg.data.path)),
        "attention_requested": cfg.attention.name,
        "attention_mask": _pattern(cfg, "mask"),
        "attention_score": _pattern(cfg, "score"),
        "attention_executed": getattr(task.model, "executed_attention", "none"),
        "device": str(trainer.strategy.root_device),
        "seed": cfg.seed,
        "date": date.today().isoformat(),
        "git_revision": revision,
        "versions": _versions(),
    }
