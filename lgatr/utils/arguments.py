"""Constructor arguments: checks, and as plain data that can be written to a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from operator import index
from typing import Any

_NOT_ARCHITECTURE = ("self", "__class__", "compile", "compile_kwargs", "activation_memory_budget")


def check_counts(minimum: int, **counts: Any) -> None:
    """Raise unless all ``counts`` are whole numbers of at least ``minimum``."""
    for name, value in counts.items():
        try:
            if isinstance(value, bool):
                raise TypeError
            index(value)
        except TypeError:
            raise TypeError(
                f"{name} must be a whole number, not {value!r} ({type(value).__name__})"
            ) from None
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, not {value}")


def check_flags(**flags: Any) -> None:
    """Raise ``TypeError`` unless all ``flags`` are True or False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")


def check_floor(name: str, value: Any) -> None:
    """Raise unless ``value`` is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of at least 0, not {value!r}")
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, not {value}")


def check_probability(name: str, value: Any) -> None:
    """Raise unless ``value`` is None or between 0 and 1."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number from 0 to 1 or None, not {value!r}")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be from 0 to 1, not {value}")


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
