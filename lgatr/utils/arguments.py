"""Constructor arguments as plain data that can be written to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

_NOT_ARCHITECTURE = ("self", "__class__", "compile", "compile_kwargs", "activation_memory_budget")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return [_plain(item) for item in value]


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments as numbers, strings, lists and dictionaries.

    How a network is compiled is left out: that is a matter of the machine it runs on.
    """
    return {k: _plain(v) for k, v in arguments.items() if k not in _NOT_ARCHITECTURE}
