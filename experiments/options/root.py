"""Top level of a run's configuration, as :mod:`experiments.training.runner` reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import FolderName, OneOf, Seed, Supplied, Text
from experiments.options.output_paths import FIGURES


@dataclass
class Paths:
    """Directories.

    Parameters
    ----------
    root
        Directory of the code.
    data
        Directory of the samples that come with the code.
    runs
        Directory of new runs.
    """

    root: Text
    data: Text
    runs: Text


@dataclass
class Root:
    """Groups of options, and options outside of groups.

    Parameters
    ----------
    name
        Directory below ``paths.runs`` for runs of this kind.
    published
        Name of the published table that the report shows.
    seed
        Seed of all random numbers.
    ckpt_path
        ``none``, ``last``, or a checkpoint.
    run_dir
        Run directory.
    plots
        Formats of plots; without PNG, the report has none.
    paths, attention, callbacks, logger
        Groups of options.
    data, task, model, optimizer, scheduler, trainer
        Parts of a run; the code supplies some of their arguments.
    search, debug
        Groups that only override others.
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
    # Runs of earlier versions have no such option.
    plots: list[Annotated[str, OneOf([suffix[1:] for suffix in FIGURES])]] | None = None
