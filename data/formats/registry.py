"""Find the format of a file by looking into it, and read a split of a sample.

A format is a module. All calls to it pass through :class:`Format`, so that whatever goes wrong in
any of them is a :class:`~data.errors.DataError` of one line.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from data.described.description import read_description
from data.described.sample import KnownSample
from data.errors import DataError
from data.jets import Jets
from data.reading import reading, snapshot
from data.shards import read_shards

SPLITS = ("train", "val", "test")
ENTRY_POINT_GROUP = "lgatr.formats"
_LOOK_INTO = 5  # files of a folder
_NOT_FORMATS = {"registry"}
_NEEDED = ("NAME", "recognises")
_OF_FILES = ("files", "count", "read_file")


@dataclass(frozen=True)
class Format:
    """A format, every call to which ends in a result or a :class:`~data.errors.DataError`.

    Parameters
    ----------
    module
        Has ``NAME``, ``recognises(path)``, and either ``read(path, split, limit)`` or, for samples
        of many files, ``files(path, split)``, ``count(file, split)`` and
        ``read_file(file, split, start, stop)``; or ``bound(path)``, which returns such an object
        for a path that tells how its files are read.
    """

    module: Any

    @property
    def name(self) -> str:
        """What users call it."""
        return str(self.module.NAME)

    @property
    def has_files(self) -> bool:
        """Whether samples come in many files, which can be read in parts."""
        return hasattr(self.module, "files")

    def recognises(self, path: Path) -> bool:
        """Whether ``path`` is of this format; of many files, one of the first that can be read.

        Raises
        ------
        DataError
            If none of them can be read.
        """
        damage: DataError | None = None
        looked_into = 0
        for candidate in self._candidates(path):
            try:
                with reading(candidate):
                    if self.module.recognises(candidate):
                        return True
                looked_into += 1
            except DataError as error:
                damage = damage or error
            if looked_into == _LOOK_INTO:
                break
        if damage is not None and not looked_into:
            raise damage
        return False

    def _candidates(self, path: Path) -> list[Path]:
        if not (self.has_files and path.is_dir()):
            return [path]
        return list(dict.fromkeys(file for split in SPLITS for file in self.files(path, split)))

    def bound(self, path: Path) -> Format:
        """The format of a path that it recognises."""
        if not hasattr(self.module, "bound"):
            return self
        with reading(path):
            return Format(self.module.bound(path))

    def files(self, path: Path, split: str) -> list[Path]:
        """The files of a split."""
        with reading(path):
            return list(self.module.files(path, split))

    def count(self, file: Path, split: str) -> int:
        """Jets of a split in a file."""
        with reading(file):
            return int(self.module.count(file, split))

    def read_file(self, file: Path, split: str, start: int = 0, stop: int | None = None) -> Jets:
        """Some jets of a file, checked."""
        with reading(file):
            jets: Jets = self.module.read_file(file, split, start, stop)
            jets.check()
        jets.warn_of_units()  # after ``reading``, which silences libraries
        return jets

    def read(self, path: Path, split: str, limit: int | None = None) -> Jets:
        """A whole split in memory, checked."""
        if self.has_files:
            return read_shards(self.files(path, split), self.read_file, path, split, limit)
        with reading(path):
            jets: Jets = self.module.read(path, split, limit)
            jets.check()
        jets.warn_of_units()  # after ``reading``, which silences libraries
        return jets


def formats() -> list[Format]:
    """All formats: those beside this module, by name, described ones, and those of packages.

    A third party registers a module under the entry-point group ``lgatr.formats``.

    Raises
    ------
    DataError
        If a registered module cannot be used.
    """
    package = importlib.import_module("data.formats")
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__))
    ours = [importlib.import_module(f"data.formats.{n}") for n in names if n not in _NOT_FORMATS]
    theirs = [_load(point) for point in entry_points(group=ENTRY_POINT_GROUP)]
    checked = [_checked(module, module.__name__) for module in ours]
    return [Format(module) for module in (*checked, *known_samples().values(), *theirs)]


@cache
def known_samples() -> dict[str, KnownSample]:
    """Public data sets whose files are described by a YAML file of ``data/descriptions``."""
    files = sorted((Path(__file__).parents[1] / "descriptions").glob("*.yaml"))
    return {file.stem: KnownSample(read_description(file)) for file in files}


def _load(point: EntryPoint) -> ModuleType:
    try:
        module: ModuleType = point.load()
    except Exception as error:
        raise DataError(
            f"entry point {point.name} of {ENTRY_POINT_GROUP}: {point.value} does not load "
            f"({error}); fix or uninstall that package"
        ) from error
    return _checked(module, f"entry point {point.name} of {ENTRY_POINT_GROUP}: {point.value}")


def _checked(module: ModuleType, where: str) -> ModuleType:
    reads = ("bound",) if hasattr(module, "bound") else ("read",)
    needed = (*_NEEDED, *(_OF_FILES if hasattr(module, "files") else reads))
    if missing := [name for name in needed if not hasattr(module, name)]:
        raise DataError(f"{where} lacks {', '.join(missing)}; see docs/extending.md")
    return module


def find_format(path: Path) -> Format:
    """The format that can read ``path``.

    Raises
    ------
    DataError
        If the file is missing, unreadable, cut short, or of no known format.
    """
    snapshot(path)
    known, damage = formats(), None
    for form in known:
        try:
            if form.recognises(path):
                return form.bound(path)
        except DataError as error:
            damage = damage or error
    if damage is not None:
        raise damage
    names = ", ".join(form.name for form in known)
    raise DataError(
        f"{path}: not a jet sample in a known format ({names}); docs/data.md says how to write one"
    )


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
    return find_format(path).read(path, split, limit)
