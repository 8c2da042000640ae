"""Arrays in an npz archive, read in pieces; nothing of what it declares is believed unchecked.

NumPy's own reader takes the memory that a header asks for. Pickled objects are never loaded.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from data.errors import DataError, listed
from data.jets import check_numbers
from data.sizes import MOST_BYTES_AT_ONCE, check_declared

_PIECE = 32 << 20  # bytes read at a time
_HEADERS = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}


def names(path: Path) -> set[str]:
    """Names of the arrays of an archive; empty if the file is no archive."""
    if not path.is_file() or not _starts_like_zip(path):
        return set()
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def _starts_like_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


class NpzArray:
    """An array of an archive, of which the header has been read and checked.

    Parameters
    ----------
    path
        The archive.
    archive
        It, opened.
    name
        Of the array.

    Raises
    ------
    DataError
        If there is no such array, it holds no numbers, or its size cannot be true.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str) -> None:
        self.path, self.archive, self.name = path, archive, name
        if f"{name}.npy" not in archive.namelist():
            raise DataError(f"{path}: has no array {name}, only {listed(names(path))}")
        info = archive.getinfo(f"{name}.npy")
        with archive.open(info) as member:
            self.shape, self.dtype = self._header(member)
            start = member.tell()
        check_numbers(self.dtype, f"{path}: {name}")
        size = math.prod(self.shape) * self.dtype.itemsize
        stored = min(info.compress_size, path.stat().st_size)
        check_declared(path, name, max(size, info.file_size), stored)
        if start + size != info.file_size:
            raise DataError(
                f"{path}: {name} has shape {self.shape}, which is {start + size:,} bytes, and the "
                f"archive has {info.file_size:,}; fetch it again"
            )

    def _header(self, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
        version, _ = np.lib.format.read_magic(member)
        if version not in _HEADERS:
            raise DataError(f"{self.path}: {self.name} is in version {version} of NumPy's format")
        shape, fortran, dtype = _HEADERS[version](member)
        if fortran and len(shape) > 1:
            raise DataError(f"{self.path}: {self.name} is in Fortran's order; save it in C's")
        return shape, dtype

    def read(self) -> npt.NDArray:
        """The whole array."""
        parts = [piece for _, piece in self.pieces(None)]
        return np.concatenate([np.zeros((0, *self.shape[1:]), self.dtype), *parts])

    def pieces(self, stop: int | None) -> Iterator[tuple[int, npt.NDArray]]:
        """Number of the first row, and rows, of neighbouring pieces up to row ``stop``.

        The checksum of the archive is that of whole arrays: it is compared if ``stop`` is None.
        """
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        if row > MOST_BYTES_AT_ONCE:
            raise DataError(f"{self.path}: {self.name} has rows of shape {self.shape[1:]}")
        count = self.shape[0] if stop is None else min(stop, self.shape[0])
        at_once = max(1, _PIECE // max(row, 1))
        with self.archive.open(f"{self.name}.npy") as member:
            self._header(member)
            for start in range(0, count, at_once):
                rows = min(at_once, count - start)
                buffer = member.read(rows * row)
                if len(buffer) != rows * row:
                    raise DataError(f"{self.path}: {self.name} ends early; fetch it again")
                yield start, np.frombuffer(buffer, self.dtype).reshape(rows, *self.shape[1:])
            if stop is None:
                member.read(1)
