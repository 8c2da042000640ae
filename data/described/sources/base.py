"""What every kind of file offers: named fields, of which some entries are read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from data.errors import DataError


class NoSuchTree(DataError):
    """A file has no part of the name that is wanted."""


class Source(Protocol):
    """An opened file, or the part of it that holds jets."""

    def fields(self) -> tuple[str, ...]:
        """Names of its fields."""
        ...

    def count(self, names: Sequence[str]) -> int:
        """Number of entries of fields, which must have equally many.

        Raises
        ------
        DataError
            If a field is missing, or they have not.
        """
        ...

    def read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Entries ``start`` to ``stop`` of fields, as arrays of awkward.

        Raises
        ------
        DataError
            If a field is missing, or does not hold numbers.
        """
        ...


class Kind(Protocol):
    """A module of this package."""

    NAME: str

    def recognises(self, path: Path) -> bool:
        """Whether a file starts like one of this kind."""
        ...

    def opened(self, path: Path, tree: str | None) -> AbstractContextManager[Source]:
        """Open a file; ``tree`` is the part of it that holds jets."""
        ...
