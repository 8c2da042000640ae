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

OPTIONS = {"data.module": "data"}
"""Present option by former one; of groups, whose options all moved, the group."""
_ATTENTION = "experiments.options.attention_choice.AttentionChoice"


def current_target(name: str) -> str:
    """The present full name of a class or function that a ``_target_`` names."""
    for old, new in MODULES.items():
        if name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name


def current_option(name: str) -> str:
    """The present full name of an option."""
    for old, new in OPTIONS.items():
        if f"{name}.".startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name


def former_options(group: Any, place: str) -> dict[str, str]:
    """Options of a group that have another name now: former full names to present ones."""
    found: dict[str, str] = {}
    for old, new in OPTIONS.items():
        parent, _, name = old.rpartition(".")
        if parent != place or not isinstance(group, Mapping) or name not in group:
            continue
        inner = group[name]
        options = [f".{option}" for option in inner] if isinstance(inner, Mapping) else [""]
        found |= {old + option: new + option for option in options}
    return found


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration of any version as this version would have written it.

    Parameters
    ----------
    config
        Plain containers; left as they are.
    """
    found: dict[str, Any] = _with_current_targets(dict(config))
    for old, new in OPTIONS.items():
        _move(found, old.split("."), new.split("."))
    attention = found.get("attention")
    if isinstance(attention, dict):
        found["attention"] = {"_target_": _ATTENTION, **attention}
    return found


def _move(config: dict[str, Any], old: list[str], new: list[str]) -> None:
    """Move one option, or the options of a group into another, which may have some already."""
    *parents, name = old
    group: Any = config
    for parent in parents:
        group = group.get(parent) if isinstance(group, dict) else None
    if not isinstance(group, dict) or name not in group:
        return
    value = group.pop(name)
    *parents, name = new
    group = config
    for parent in parents:
        group = group.setdefault(parent, {})
    if isinstance(value, dict) and isinstance(group.get(name), dict):
        group[name].update(value)
    else:
        group[name] = value


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
