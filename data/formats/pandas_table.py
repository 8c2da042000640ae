"""The reference top-tagging data set (Zenodo 2603256): pandas tables in HDF5.

Dataset ``table/table`` as PyTables writes it: ``values_block_0`` holds 200 constituents as
(E, px, py, pz) in GeV, zero-padded, then the true top; ``values_block_1`` ends with
``is_signal_new``. A folder holds one file per split. The table is streamed in chunks; only the
real constituents stay in memory.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from rich.progress import Progress

from data.errors import DataError
from data.hdf5 import get_dataset, is_hdf5, open_hdf5
from data.jets import Jets, as_labels, check_numbers, join, unpad
from data.reading import reading
from data.sizes import MOST_BYTES_AT_ONCE

NAME = "top-tagging reference data set (pandas HDF5)"
TABLE = "table/table"
CONSTITUENTS = 200
CHUNK = 20_000
_QUIET_BELOW = 200_000  # jets; larger files show a progress bar


SPLITS = ("train", "val", "test")


def _file(path: Path, split: str) -> Path:
    return path / f"{split}.h5" if path.is_dir() else path


def _check_split(path: Path, split: str) -> None:
    """Refuse to test on the jets that were trained on: a table is one split.

    That of its name; tables of other names are for the test of what was trained elsewhere.

    Raises
    ------
    DataError
        If the file is not for ``split``.
    """
    own = path.stem if path.stem in SPLITS else "test"
    if split != own:
        raise DataError(
            f"{path}: a table is one split, and this one is not for {split}; "
            "give the folder with train.h5, val.h5 and test.h5"
        )


def _is_table(path: Path) -> bool:
    if not is_hdf5(path):
        return False
    with reading(path), open_hdf5(path) as (file, _):
        if TABLE not in file:
            return False
        names = get_dataset(path, file, TABLE).dtype.names or ()
        return "values_block_0" in names and "values_block_1" in names


def recognises(path: Path) -> bool:
    """Whether ``path`` is such a file, or a folder with one for training."""
    return any(_is_table(_file(path, split)) for split in SPLITS)


def read(path: Path, split: str, limit: int | None = None) -> Jets:
    """One split; see :func:`data.formats.read_jets`."""
    path = _file(path, split)
    _check_split(path, split)
    if not path.exists():
        raise DataError(f"{path}: no such file; the folder needs train.h5, val.h5 and test.h5")
    if not _is_table(path):
        raise DataError(f"{path}: is not a pandas table of jets like its neighbours")
    with reading(path), open_hdf5(path) as (file, _):
        jets = _stream(path, get_dataset(path, file, TABLE), limit)
        jets.check()
        return jets


def _check_columns(path: Path, table: h5py.Dataset) -> None:
    for name in ("values_block_0", "values_block_1"):
        base, shape = table.dtype[name].base, table.dtype[name].shape
        check_numbers(base, f"{path}: {name}")
        if len(shape) != 1 or shape[0] == 0 or table.ndim != 1:
            raise DataError(f"{path}: {name} has shape {shape} in each row, expected (columns,)")
    width = table.dtype["values_block_0"].shape[0]
    if width < 4 * CONSTITUENTS:
        raise DataError(f"{path}: rows have {width} columns, expected {4 * CONSTITUENTS} or more")


def _stream(path: Path, table: h5py.Dataset, limit: int | None) -> Jets:
    _check_columns(path, table)
    count = len(table) if limit is None else min(limit, len(table))
    at_once = min(CHUNK, max(1, MOST_BYTES_AT_ONCE // table.dtype.itemsize))
    pieces, labels = [], [np.zeros(0, dtype=np.int64)]
    with Progress(disable=count < _QUIET_BELOW) as progress:
        bar = progress.add_task(f"Reading {path.name}", total=count)
        for start in range(0, count, at_once):
            rows = table[start : min(start + at_once, count)]
            momenta = rows["values_block_0"][:, : 4 * CONSTITUENTS]
            momenta = momenta.reshape(-1, CONSTITUENTS, 4).astype(np.float32)
            pieces.append(unpad(momenta))
            labels.append(as_labels(rows["values_block_1"][:, -1], str(path)))
            progress.advance(bar, len(rows))
    return join(pieces, np.concatenate(labels), str(path))
