"""Build a task and its model from a configuration and the specification of the data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from experiments.data.batch import DataSpec
from experiments.options.signatures import find
from experiments.tasks.base import Task


def spec_for_model(cfg: DictConfig, spec: DataSpec) -> DataSpec:
    """What the model is built for: the specification of the data, and what the task asks for."""
    task: Any = find(cfg.task._target_)
    asked = getattr(task, "asked", None)
    return spec if asked is None else asked(spec, cfg.task)


def build_task(cfg: DictConfig, spec: DataSpec) -> tuple[Task[Any], Callable[[], nn.Module]]:
    """The task with a new model, and the function that makes such models.

    Parameters
    ----------
    cfg
        Configuration of a run.
    spec
        Of :func:`spec_for_model`.
    """
    make_model = partial(instantiate(cfg.model), spec=spec)
    task: Task[Any] = instantiate(cfg.task)(
        spec=spec,
        model=make_model(),
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
    )
    return task, make_model
