"""Allow-list of the code that the configuration of a run may call.

A ``config.yaml`` names classes by ``_target_``, which are called to build a model. A directory from
somebody else must not be able to call anything but parts of runs.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from types import FunctionType, ModuleType
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from experiments.errors import UserError

PACKAGES = (
    "data",
    "experiments",
    "lgatr",
    "lightning.fabric",
    "lightning.pytorch",
    "pytorch_optimizer",
    "torch.nn",
    "torch.optim",
)
"""Packages whose classes may be named, if they derive from one of the classes below."""

KINDS = frozenset(
    {
        "lightning.fabric.plugins.environments.cluster_environment.ClusterEnvironment",
        "lightning.fabric.plugins.io.checkpoint_io.CheckpointIO",
        "lightning.fabric.plugins.precision.precision.Precision",
        "lightning.fabric.strategies.strategy.Strategy",
        "lightning.pytorch.callbacks.callback.Callback",
        "lightning.pytorch.core.datamodule.LightningDataModule",
        "lightning.pytorch.loggers.logger.Logger",
        "lightning.pytorch.plugins.layer_sync.LayerSync",
        "lightning.pytorch.profilers.profiler.Profiler",
        "lightning.pytorch.strategies.strategy.Strategy",
        "lightning.pytorch.trainer.trainer.Trainer",
        "torch.nn.modules.module.Module",
        "torch.optim.lr_scheduler.LRScheduler",
        "torch.optim.optimizer.Optimizer",
    }
)
"""Base classes of the parts of a run. Dataclasses of our own packages are parts, too."""

OWN = ("data", "experiments", "lgatr")
FUNCTIONS = ("experiments.training.schedules",)
"""Modules whose functions may be named."""


def check_trust(packages: Sequence[str]) -> None:
    """Check that packages are installed.

    Raises
    ------
    UserError
        At the first that is misspelt or not installed.
    """
    for name in packages:
        try:
            there = bool(name) and importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):
            there = False
        if not there:
            raise UserError(f"--trust {name!r}: no package of this name is installed here")


def _inside(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _targets(config: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Places and values of all ``_target_`` keys."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key == "_target_":
                yield place, value
            else:
                yield from _targets(value, f"{place}.{key}" if place else str(key))
    elif isinstance(config, list):
        for number, value in enumerate(config):
            yield from _targets(value, f"{place}[{number}]")


def _resolve(name: str, packages: Sequence[str]) -> Any:
    """Find an object as Hydra does, but import nothing outside ``packages`` on the way.

    Raises
    ------
    LookupError
        If there is none.
    """
    first, *rest = name.split(".")
    found: Any = importlib.import_module(first)
    path = first
    for part in rest:
        path = f"{path}.{part}"
        if isinstance(found, ModuleType):
            above = any(package.startswith(f"{found.__name__}.") for package in packages)
            if not (above or _inside(found.__name__, packages)):
                raise LookupError(path)
            if not hasattr(found, part):
                found = importlib.import_module(path)
                continue
        found = getattr(found, part)
    return found


def _is_part(found: Any, extra: Sequence[str]) -> bool:
    """Whether an object is a part of runs, or is defined in a package of ``extra``."""
    # By the module that defines it, because modules also contain what they import.
    home = str(getattr(found, "__module__", ""))
    if isinstance(found, FunctionType):
        return _inside(home, (*FUNCTIONS, *extra)) and "." not in found.__qualname__
    if not isinstance(found, type):
        return False
    if _inside(home, extra):
        return True
    bases = {f"{base.__module__}.{base.__qualname__}" for base in found.__mro__}
    ours = _inside(home, OWN) and is_dataclass(found)
    return _inside(home, PACKAGES) and (ours or not bases.isdisjoint(KINDS))


def check_targets(config: Any, source: str, extra: Sequence[str] = ()) -> None:
    """Check that a configuration names only parts of runs.

    Parameters
    ----------
    config
        A configuration, or a part of one: an OmegaConf object, mapping or list.
    source
        Its origin, for the error message.
    extra
        Further packages or modules whose classes and functions may be named.

    Raises
    ------
    UserError
        At the first ``_target_`` that is not allowed, or does not exist.
    """
    if isinstance(config, (DictConfig, ListConfig)):
        config = OmegaConf.to_container(config, resolve=False)
    for place, name in _targets(config):
        here = f"{source}: {place or 'the top'} names {name!r} as its _target_"
        parts = name.split(".") if isinstance(name, str) else [""]
        if any(not part.isidentifier() or part.startswith("__") for part in parts):
            raise UserError(f"{here}, which is no name of a class")
        advice = f"not a part of runs; if you trust its author, add --trust {parts[0]}"
        if not _inside(name, (*PACKAGES, *extra)) and name != "lightning.Trainer":
            raise UserError(f"{here}, {advice}")
        try:
            found = _resolve(name, ("lightning", *PACKAGES, *extra))
        except (ImportError, AttributeError, LookupError) as error:
            raise UserError(f"{here}, which does not exist here; is its package installed?") from (
                error
            )
        if not _is_part(found, extra):
            raise UserError(f"{here}, {advice}")
