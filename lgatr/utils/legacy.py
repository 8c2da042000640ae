"""Names of lgatr 1.x, accepted with a DeprecationWarning."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

C = TypeVar("C", bound=type)

Rename = str | tuple[str, Callable[[Any], Any]] | None
"""New name; or new name and how the value changes; or None for an argument that went away."""


def warn_renamed(owner: str, old: str, new: str | None, stacklevel: int = 4) -> None:
    """Tell which argument replaces the one that was used."""
    advice = f"use {new}" if new else "it has no effect any more"
    warnings.warn(
        f"{owner}: {old} is from lgatr 1.x; {advice}", DeprecationWarning, stacklevel=stacklevel
    )


def modern(owner: str, renames: Mapping[str, Rename], given: Mapping[str, Any]) -> dict[str, Any]:
    """Replace old argument names in ``given``.

    Raises
    ------
    TypeError
        If an argument is given under its old name and its new one.
    """
    result = dict(given)
    for old in renames.keys() & given.keys():
        rename = renames[old]
        value = result.pop(old)
        new, change = rename if isinstance(rename, tuple) else (rename, lambda x: x)
        warn_renamed(owner, old, new)
        if new is None:
            continue
        if new in result:
            raise TypeError(f"{owner}: {old} is the old name of {new}; give only {new}")
        result[new] = change(value)
    return result


def accepts_legacy(method: str, /, **renames: Rename) -> Callable[[C], C]:
    """Class decorator: let a method take keyword arguments under their old names.

    Applied to ``__init__`` it also fixes the old meaning of None for numbers of channels: 0.
    """

    def decorate(cls: C) -> C:
        original = getattr(cls, method)
        channels = {
            name
            for name, parameter in inspect.signature(original).parameters.items()
            if "s_channels" in name
            and "reinsert" not in name
            and parameter.default in (0, parameter.empty)
        }

        @functools.wraps(original)
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if renames.keys() & kwargs.keys():
                kwargs = modern(cls.__name__, renames, kwargs)
            if method == "__init__" and channels:
                kwargs = {k: 0 if v is None and k in channels else v for k, v in kwargs.items()}
            return original(self, *args, **kwargs)

        setattr(cls, method, wrapped)
        if method == "__init__":
            cls._legacy_names = tuple(renames)  # type: ignore[attr-defined]
        return cls

    return decorate


class GATrConfig:
    """The global switches of lgatr 1.x: defaults for networks that are built afterwards.

    Networks that exist already do not change, which they did in 1.x.
    """

    _names = {
        "use_fully_connected_subgroup": "subgroup",
        "use_bivector": "bivector",
        "use_geometric_product": "geometric_product",
    }

    def __init__(self) -> None:
        object.__setattr__(self, "defaults", {})

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            return self.defaults.get(self._names[name], True)
        raise AttributeError(f"gatr_config has {', '.join(self._names)}; not {name}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._names:
            raise AttributeError(f"gatr_config has {', '.join(self._names)}; not {name}")
        warn_renamed("gatr_config", name, f"primitives={{'{self._names[name]}': {value}}}", 3)
        self.defaults[self._names[name]] = bool(value)


gatr_config = GATrConfig()
