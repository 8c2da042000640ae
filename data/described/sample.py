"""Samples of many files that are described, offering what formats do (:mod:`data.formats`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.described.description import ALL, SPLITS, Description, read_description
from data.described.reader import Reader
from data.described.sources import kind_of
from data.described.sources.base import NoSuchTree
from data.errors import DataError
from data.jets import Jets
from data.shards import visible

SHARES = (0.8, 0.1, 0.1)
"""Of each file for training, validation and test, where neither files nor shares say it."""


class KnownSample:
    """Files of a public data set: in folders whose names begin with the split, or one file.

    Parameters
    ----------
    description
        Shipped with this library; its patterns of files are those in the folders of a split.
    """

    def __init__(self, description: Description) -> None:
        self.NAME, self.description = description.name, description
        self.reader = Reader(description)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of labels."""
        return tuple(self.description.classes)

    def recognises(self, file: Path) -> bool:
        """Whether a file has all fields."""
        if not file.is_file():
            return False
        kind = kind_of(file)
        if kind is None or self.description.kind not in (None, kind.NAME):
            return False
        try:
            return set(self.description.fields()) <= set(self.reader.fields(file))
        except NoSuchTree:
            return False

    def files(self, path: Path, split: str) -> list[Path]:
        """Files of a split."""
        if not path.is_dir():
            return [path]
        folders = visible(f for f in path.glob(f"{split}*") if f.is_dir())
        patterns = self.description.files[ALL]
        return [f for folder in folders for name in patterns for f in visible(folder.rglob(name))]

    def count(self, file: Path, split: str) -> int:
        """Jets in a file."""
        return self.reader.count(file)

    def read_file(self, file: Path, split: str, start: int = 0, stop: int | None = None) -> Jets:
        """Some jets of a file."""
        stop = self.count(file, split) if stop is None else stop
        return self.reader.jets(file, start, stop)


@dataclass(frozen=True)
class _Part:
    """Shares of a file before a split, and up to its end."""

    first: float
    last: float


class DescribedSample:
    """The files that a description names.

    Parameters
    ----------
    path
        The description.

    Raises
    ------
    DataError
        If it is none.
    """

    NAME = "description (YAML)"

    def __init__(self, path: Path) -> None:
        self.path, self.description = path, read_description(path)
        self.reader = Reader(self.description)

    def recognises(self, file: Path) -> bool:
        """Whether it is this description."""
        return file == self.path

    def files(self, path: Path, split: str) -> list[Path]:
        """Files of a split, in the order of their patterns."""
        given = self.description.files
        if not given:
            raise DataError(
                f"{self.path}: names no files; add files: [PATTERN, ...], or files: {{train: ..., "
                "val: ..., test: ...}"
            )
        patterns = given.get(split) or given[ALL]
        found = []
        for pattern in patterns:
            matching = _matching(self.path.parent, pattern)
            if not matching:
                raise DataError(f"{self.path}: files: {pattern} is the name of no file")
            found += matching
        return list(dict.fromkeys(found))

    def _part(self, split: str) -> _Part:
        if split in self.description.files:
            return _Part(0.0, 1.0)
        shares = self.description.shares or SHARES
        place = SPLITS.index(split)
        return _Part(sum(shares[:place]), sum(shares[: place + 1]))

    def _bounds(self, file: Path, split: str) -> tuple[int, int]:
        jets, part = self.reader.count(file), self._part(split)
        return round(part.first * jets), round(part.last * jets)

    def count(self, file: Path, split: str) -> int:
        """Jets of a split in a file."""
        first, last = self._bounds(file, split)
        return last - first

    def read_file(self, file: Path, split: str, start: int = 0, stop: int | None = None) -> Jets:
        """Some jets of a file's part of a split."""
        first, last = self._bounds(file, split)
        return self.reader.jets(
            file, first + start, last if stop is None else min(last, first + stop)
        )


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Files of a pattern, which may be absolute, sorted."""
    whole = Path(pattern)
    if whole.is_absolute():
        parts = whole.parts
        folder, pattern = Path(parts[0]), str(Path(*parts[1:]))
    if any(character in pattern for character in "*?["):
        return visible(path for path in folder.glob(pattern) if path.is_file())
    return [folder / pattern]
