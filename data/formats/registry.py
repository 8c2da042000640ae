"""Find the format of a file by looking into it, and read a split of a sample."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from data.errors import DataError
from data.jets import Jets

SPLITS = ("train", "val", "test")
_NOT_FORMATS = {"registry"}


def formats() -> list[ModuleType]:
    """All format modules beside this one, in the order of their names."""
    package = importlib.import_module("data.formats")
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"data.formats.{n}") for n in names if n not in _NOT_FORMATS]


def find_format(path: Path) -> ModuleType:
    """The module that can read ``path``.

    Raises
    ------
    DataError
        If the file is missing, unreadable, cut short, or of no known format.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; set data.path to your jets")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; fetch or generate it again")
    found = [module for module in formats() if module.recognises(path)]
    if not found:
        known = ", ".join(module.NAME for module in formats())
        raise DataError(f"{path}: not a jet sample in a known format ({known})")
    return found[0]


def read_jets(path: str | Path, split: str, limit: int | None = None) -> Jets:
    """Read one split of a jet sample, checked.

    Parameters
    ----------
    path
        A file, or a folder with one file per split (``train.h5``, ``val.h5``, ``test.h5``).
    split
        ``"train"``, ``"val"`` or ``"test"``.
    limit
        Read at most this many jets, from the start of the split.

    Raises
    ------
    DataError
        If the file cannot be used; the message says why.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    path = Path(path)
    jets: Jets = find_format(path).read(path, split, limit)
    jets.check_structure()
    jets.check_momenta()
    return jets
