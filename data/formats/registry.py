"""Find the format of a file by looking into it, and read a split of a sample."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from data.errors import DataError
from data.jets import Jets

SPLITS = ("train", "val", "test")
ENTRY_POINT_GROUP = "lgatr.formats"
_NOT_FORMATS = {"registry"}
_NEEDED = ("NAME", "recognises", "read")


def formats() -> list[ModuleType]:
    """All format modules: those beside this one, by name, then those of installed packages.

    A third party registers a module under the entry-point group ``lgatr.formats``.

    Raises
    ------
    DataError
        If a registered module cannot be used.
    """
    package = importlib.import_module("data.formats")
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__))
    ours = [importlib.import_module(f"data.formats.{n}") for n in names if n not in _NOT_FORMATS]
    return ours + [_load(point) for point in entry_points(group=ENTRY_POINT_GROUP)]


def _load(point: EntryPoint) -> ModuleType:
    try:
        module: ModuleType = point.load()
    except Exception as error:
        raise DataError(
            f"entry point {point.name} of {ENTRY_POINT_GROUP}: {point.value} does not load "
            f"({error}); mend or uninstall that package"
        ) from error
    missing = [name for name in _NEEDED if not hasattr(module, name)]
    if missing:
        raise DataError(
            f"entry point {point.name} of {ENTRY_POINT_GROUP}: {point.value} lacks "
            f"{', '.join(missing)}; see docs/extending.md"
        )
    return module


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
