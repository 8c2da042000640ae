"""The options that no part receives: what :mod:`experiments.training.runner` reads itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import FolderName, Seed, Supplied, Text


@dataclass
class Paths:
    """Folders.

    Parameters
    ----------
    root
        Of the code.
    data
        With the samples that come with it.
    runs
        For new runs.
    """

    root: Text
    data: Text
    runs: Text


@dataclass
class Root:
    """The groups of a run's configuration, and its options outside all groups.

    Parameters
    ----------
    name
        Folder of the run's kind below ``paths.runs``.
    published
        The task, for the published table beside the run if there is one.
    seed
        Of all random numbers.
    ckpt_path
        ``none``, ``last``, or a checkpoint.
    run_dir
        Folder of the run.
    paths, attention, callbacks, logger
        Groups of options.
    data, task, model, optimizer, scheduler, trainer
        Parts, with what the code passes to them.
    search, debug
        Groups that change others and hold nothing themselves.
    """

    name: Annotated[str, FolderName()]
    published: Text
    seed: Seed
    ckpt_path: Text
    run_dir: Text
    paths: Paths
    data: LightningDataModule
    attention: AttentionChoice
    callbacks: dict[str, Callback | None]
    logger: dict[str, Logger | None]
    task: Annotated[
        Callable[..., LightningModule], Supplied("spec", "model", "optimizer", "scheduler")
    ]
    model: Annotated[Callable[..., Any], Supplied("spec")]
    optimizer: Annotated[Callable[..., Any], Supplied("params")]
    scheduler: Annotated[Callable[..., Any], Supplied("optimizer", "total_steps")]
    trainer: Annotated[
        Trainer,
        Supplied("logger", "callbacks", "fast_dev_run", "barebones", "enable_checkpointing"),
    ]
    search: dict[str, Any] | None = None
    debug: dict[str, Any] | None = None
