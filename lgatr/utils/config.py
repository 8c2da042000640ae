"""Accept a configuration as a dataclass, a mapping, or an OmegaConf node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def cast_config(cls: type[T], config: T | Mapping[str, Any] | None) -> T:
    """Turn ``config`` into an instance of the dataclass ``cls``; None means the defaults.

    Raises
    ------
    ValueError
        If a mapping has a key that ``cls`` does not know.
    TypeError
        If ``config`` is neither a mapping nor an instance of ``cls``.
    """
    if config is None:
        return cls()
    if isinstance(config, cls):
        return config
    # OmegaConf's DictConfig is a MutableMapping, so it needs no import of OmegaConf here.
    if isinstance(config, Mapping):
        known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        legacy = getattr(cls, "_legacy_names", ())
        unknown = [str(key) for key in config if key not in known and key not in legacy]
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no option {', '.join(unknown)}; it has {', '.join(known)}"
            )
        return cls(**{str(key): config[key] for key in config})
    raise TypeError(
        f"{cls.__name__} takes a mapping or a {cls.__name__}, not {type(config).__name__}"
    )


def check_left_out(config: Any, **decided: Any) -> None:
    """Raise ``ValueError`` if a dataclass contradicts what the block or network around it decides.

    Parameters
    ----------
    config
        The user's choices. Fields that have their defaults say nothing.
    **decided
        Values of fields.
    """
    defaults = {f.name: f.default for f in fields(config)}
    for name, value in decided.items():
        own = getattr(config, name)
        if own != defaults[name] and own != value:
            raise ValueError(
                f"{type(config).__name__} has {name}={own!r}, but the block or network around the "
                f"layer decides it and has {value!r}; leave it out"
            )
