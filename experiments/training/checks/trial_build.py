"""Build the parts of a run without its data, to check that they fit together."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.options.signatures import find
from experiments.tasks.building import build_task, spec_for_model
from experiments.tasks.classification import Classification

_COPIES = 4  # weights, gradients, two moments


def _specification(cfg: DictConfig, features: int) -> DataSpec:
    """Specification of a data set that the task fits."""
    task: Any = find(cfg.task._target_)
    of_task = getattr(task, "spec_on_trial", Classification.spec_on_trial)
    spec = spec_for_model(cfg, of_task(features, cfg.task))
    return replace(spec, conditional=bool(cfg.data.get("conditional", False)))


def _memory() -> int:
    """Memory of this machine in bytes; 0 if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _check_size(cfg: DictConfig, spec: DataSpec) -> None:
    """Refuse a network that does not fit into memory, before the process is killed."""
    try:
        with torch.device("meta"):
            model = instantiate(cfg.model)(spec=spec)
            parameters = sum(p.numel() for p in model.parameters())
    except Exception:  # not every package supports the meta device
        return
    needed, there = 4 * _COPIES * parameters, _memory()
    if there and needed > there:
        raise UserError(
            f"model: its {parameters:,} parameters need {needed / 1e9:.0f} GB to be trained, "
            f"this machine has {there / 1e9:.0f} GB; make it smaller"
        )


def build(cfg: DictConfig) -> None:
    """Build all parts with a stand-in for the data, and discard them.

    Random-number generators are restored, and no data is read.

    Raises
    ------
    ValueError, UserError
        If a part cannot be built.
    """
    datamodule = instantiate(cfg.data)
    prepare: Any = getattr(datamodule, "prepare", None)
    spec = _specification(cfg, len(getattr(prepare, "features", ())))
    # A backbone has the classes of the real data.
    scratch = {"model": {"backbone": "none"}} if "backbone" in cfg.model else {}
    copy = OmegaConf.merge(cfg, scratch)
    assert isinstance(copy, DictConfig)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check_size(copy, spec)
        task, _ = build_task(copy, spec)
        if not hasattr(task.model, "fit") and hasattr(task, "make_optimizer"):
            instantiate(cfg.scheduler)(task.make_optimizer(), total_steps=cfg.trainer.max_steps)
        _build_trainer(cfg)


def _build_trainer(cfg: DictConfig) -> None:
    parts: dict[str, list[Any]] = {}
    for group in ("callbacks", "logger"):
        parts[group] = []
        for name, part in cfg[group].items():
            if part is not None:
                with _named(f"{group}.{name}"):
                    parts[group].append(instantiate(part))
    try:
        instantiate(cfg.trainer, **parts)
    except Exception as error:
        raise UserError(f"{_cause(cfg.trainer)}: {_words(error)}") from error


def _cause(trainer: DictConfig) -> str:
    """The option without which Lightning accepts the others, or ``trainer``."""
    for name, value in trainer.items():
        if name == "_target_":
            continue
        others = {str(key): inner for key, inner in trainer.items() if key != name}
        try:
            instantiate({**others, "logger": False, "enable_checkpointing": False})
        except Exception:  # another option is wrong
            continue
        return f"trainer.{str(name)}={value}"
    return "trainer"


@contextmanager
def _named(option: str) -> Iterator[None]:
    """Add the name of the option to any error."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{option}: {_words(error)}") from error


def _words(error: Exception) -> str:
    """The first line of the error that Hydra wrapped."""
    beneath = error.__cause__ or error
    text = str(beneath).strip() or type(beneath).__name__
    return text.splitlines()[0]
