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
from data.hdf5 import is_hdf5, open_hdf5
from data.jets import Jets, join, unpad

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
    with open_hdf5(path) as file:
        if TABLE not in file:
            return False
        names = file[TABLE].dtype.names or ()
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
    with open_hdf5(path) as file:
        return _stream(path, file[TABLE], limit)


def _stream(path: Path, table: h5py.Dataset, limit: int | None) -> Jets:
    width = table.dtype["values_block_0"].shape[0]
    if width < 4 * CONSTITUENTS:
        raise DataError(f"{path}: rows have {width} columns, expected {4 * CONSTITUENTS} or more")
    count = len(table) if limit is None else min(limit, len(table))
    pieces, labels = [], []
    with Progress(disable=count < _QUIET_BELOW) as progress:
        bar = progress.add_task(f"Reading {path.name}", total=count)
        for start in range(0, count, CHUNK):
            rows = table[start : min(start + CHUNK, count)]
            momenta = rows["values_block_0"][:, : 4 * CONSTITUENTS]
            momenta = momenta.reshape(-1, CONSTITUENTS, 4).astype(np.float32)
            pieces.append(unpad(momenta))
            labels.append(rows["values_block_1"][:, -1].astype(np.int64))
            progress.advance(bar, len(rows))
    joined = np.concatenate([np.zeros(0, dtype=np.int64), *labels])
    return join(pieces, joined, str(path))
