"""Names that configurations of earlier versions use, and what stands there now.

Runs keep their resolved configuration, so a class that moved must still be found under the name it
had when the run was started.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODULES = {
    "experiments.callbacks": "experiments.training.callbacks",
    "experiments.checkpoint_io": "experiments.saved_runs.checkpoints",
    "experiments.data.streamed": "experiments.data.streaming_datamodule",
    "experiments.models.attention": "experiments.options.attention_choice",
    "experiments.models.slim": "experiments.models.lgatr_slim",
    "experiments.run_log": "experiments.training.run_log",
    "experiments.schedules": "experiments.training.schedules",
    "experiments.sharded": "experiments.training.sharding",
}
"""Present module, or package, by former one."""

_OPTION_GROUPS = {"data.module": "data"}
_ATTENTION = "experiments.options.attention_choice.AttentionChoice"


def current_target(name: str) -> str:
    """The present full name of a class or function that a ``_target_`` names."""
    for old, new in MODULES.items():
        if name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name


def current_option(name: str) -> str:
    """The present full name of an option."""
    for old, new in _OPTION_GROUPS.items():
        if name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name


def former_options(group: Any, place: str) -> dict[str, str]:
    """Options of a group that have another name now: former full names to present ones."""
    inner = dict(group) if isinstance(group, Mapping) else {}
    return {
        f"{old}.{name}": f"{new}.{name}"
        for old, new in _OPTION_GROUPS.items()
        if old.rpartition(".")[0] == place
        for name in inner.get(old.rpartition(".")[2]) or {}
    }


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration of any version as this version would have written it.

    Parameters
    ----------
    config
        Plain containers; left as they are.
    """
    found = _with_current_targets(dict(config))
    data, attention = found.get("data"), found.get("attention")
    # The data module used to be a part inside the group, which repeated its options.
    if isinstance(data, dict) and isinstance(data.get("module"), dict):
        found["data"] = {**data, **data["module"]}
        del found["data"]["module"]
    if isinstance(attention, dict):
        found["attention"] = {"_target_": _ATTENTION, **attention}
    return found


def _with_current_targets(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_current_targets(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: current_target(entry)
        if key == "_target_" and isinstance(entry, str)
        else _with_current_targets(entry)
        for key, entry in value.items()
    }
