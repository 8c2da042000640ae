"""Rows of numbers, as in public data sets: a ``.npy`` file, or a data set of an HDF5 file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from data.errors import DataError
from data.hdf5 import get_dataset, is_hdf5, open_hdf5
from data.reading import reading
from data.tables import require_file

Choose = Callable[[int], slice]
"""Which rows are wanted, of how many there are."""
NAME = ".npy"


@dataclass(frozen=True)
class Rows:
    """Where rows of numbers lie.

    Parameters
    ----------
    path
        A ``.npy`` file, or an HDF5 file.
    table
        Name of the data set in an HDF5 file; None for ``.npy``.
    """

    path: Path
    table: str | None = None

    def read(
        self, columns: int, what: str, chosen: Choose | None = None
    ) -> tuple[npt.NDArray[np.float64], int]:
        """Rows as float64; of a large file only those that are wanted are read.

        Parameters
        ----------
        columns, what
            How many numbers a row has, and which, for messages.
        chosen
            Which rows; None for all.

        Returns
        -------
        rows, first
            What was read, and the number of its first row in the file.

        Raises
        ------
        DataError
            If there are no such rows.
        """
        require_file(self.path)
        with reading(self.path), self._open() as found:
            if found.dtype.kind != "f" or found.ndim != 2 or found.shape[1] != columns:
                raise DataError(
                    f"{self}: holds {found.dtype} {found.shape}, where rows of {columns} "
                    f"floating-point numbers are wanted: {what}"
                )
            rows = slice(0, len(found)) if chosen is None else chosen(len(found))
            return np.array(found[rows], dtype=np.float64), rows.start

    def __str__(self) -> str:
        return str(self.path) if self.table is None else f"{self.path}: {self.table}"

    @contextmanager
    def _open(self) -> Iterator[Any]:
        if self.table is None:
            yield _mapped(self.path)
            return
        if not is_hdf5(self.path):
            raise DataError(
                f"{self.path}: no HDF5 file, so that there is no {self.table} in it; leave "
                "data.table out"
            )
        with open_hdf5(self.path) as (file, _):
            yield get_dataset(self.path, file, self.table)


def are_rows(path: Path, table: str | None) -> bool:
    """Whether data are given as rows of numbers: in ``.npy``, or by the name of a data set."""
    return table is not None or path.suffix == NAME


def tables_of(path: Path) -> list[str]:
    """Names of the data sets at the top of an HDF5 file that could be rows; else none."""
    if not is_hdf5(path):
        return []
    with open_hdf5(path) as (file, _):
        links = [file.get(name, getlink=True) for name in file]
        return [
            name
            for name, link in zip(file, links, strict=True)
            if not isinstance(link, h5py.ExternalLink)
            and isinstance(file.get(name), h5py.Dataset)
            and file[name].ndim == 2
        ]


def advice(path: Path) -> str:
    """What to do about a file that is none of ours: how its rows are named, if it has any."""
    if names := tables_of(path):
        return f"; for its rows of numbers give data.table, one of {', '.join(names)}"
    return ""


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: damaged, cut short or no rows of numbers ({reason}); fetch or write it again"
        ) from error
    return found
