"""Archives of NumPy arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data import npz
from data.errors import DataError, listed

NAME = "npz"


def recognises(path: Path) -> bool:
    """Whether a file is an archive of arrays."""
    return bool(npz.names(path))


@contextmanager
def opened(path: Path, tree: str | None) -> Iterator[Arrays]:
    """Open an archive; there is one set of arrays in each file."""
    if tree is not None:
        raise DataError(f"{path}: an archive of arrays has no {tree!r}; leave tree out")
    with zipfile.ZipFile(path) as archive:
        yield Arrays(path, archive)


class Arrays:
    """Arrays of an archive.

    Parameters
    ----------
    path, archive
        The file, and it opened.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        self._arrays: dict[str, npz.NpzArray] = {}

    def fields(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(sorted(npz.names(self.path)))

    def _array(self, name: str) -> npz.NpzArray:
        if name not in self._arrays:
            self._arrays[name] = npz.NpzArray(self.path, self.archive, name)
        if not self._arrays[name].shape:
            raise DataError(f"{self.path}: {name} is a single number")
        return self._arrays[name]

    def count(self, names: Sequence[str]) -> int:
        """Rows of arrays."""
        if missing := [name for name in names if name not in self.fields()]:
            raise DataError(f"{self.path}: has no array {listed(missing)}")
        rows = {name: self._array(name).shape[0] for name in names}
        if len(set(rows.values())) != 1:
            numbers = ", ".join(f"{name} {count:,}" for name, count in rows.items())
            raise DataError(f"{self.path}: arrays have different numbers of rows: {numbers}")
        return next(iter(rows.values()))

    def read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Rows ``start`` to ``stop``."""
        import awkward as ak

        self.count(names)
        found = {}
        for name in names:
            array = self._array(name)
            # Read to the end whatever is wanted: only then is the archive's checksum compared.
            parts = [
                piece[max(start - first, 0) : max(stop - first, 0)]
                for first, piece in array.pieces(None)
            ]
            values = np.concatenate([np.zeros((0, *array.shape[1:]), array.dtype), *parts])
            found[name] = ak.from_numpy(np.ascontiguousarray(values), regulararray=True)
        return found
