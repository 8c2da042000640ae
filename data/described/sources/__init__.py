"""Kinds of files that hold named fields: one module for each, found by looking into a file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.described.sources.base import Kind, Source
from data.errors import DataError


def kinds() -> list[Kind]:
    """All kinds, by name."""
    modules = (
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
    )
    return [module for module in modules if hasattr(module, "recognises")]  # type: ignore[misc]


def kind_of(path: Path) -> Kind | None:
    """The kind that a file is of, if of any."""
    return next((kind for kind in kinds() if kind.recognises(path)), None)


@contextmanager
def opened(path: Path, tree: str | None) -> Iterator[Source]:
    """Open a file of any kind; ``tree`` is the part of it that holds jets.

    Raises
    ------
    DataError
        If it is of no kind.
    """
    kind = kind_of(path)
    if kind is None:
        names = ", ".join(kind.NAME for kind in kinds())
        raise DataError(f"{path}: no file that a description can be of ({names})")
    with kind.opened(path, tree) as source:
        yield source
