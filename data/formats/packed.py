"""Our own format: ragged float32 constituents with offsets, one HDF5 group per split.

``/{train,val,test}/constituents`` is ``(N, 4)`` float32 ``(E, px, py, pz)`` in GeV, sorted by
falling pT within a jet; ``offsets`` is ``(J + 1,)`` int64; ``labels`` is ``(J,)`` int8.
The file attribute ``format`` is :data:`MARK`. Uncompressed data sets are memory-mapped,
compressed ones are read into memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from data.atomic import atomic_path
from data.errors import DataError
from data.hdf5 import is_hdf5, open_hdf5
from data.jets import FloatArray, Jets

NAME = "packed HDF5 (ours)"
MARK = "lgatr-packed-jets"
VERSION = 1


def recognises(path: Path) -> bool:
    """Whether ``path`` is an HDF5 file that carries our mark."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return file.attrs.get("format") == MARK


def read(path: Path, split: str, limit: int | None = None) -> Jets:
    """One split; see :func:`data.formats.read_jets`."""
    with open_hdf5(path) as file:
        if split not in file:
            raise DataError(f"{path}: has no group {split!r}, only {', '.join(file) or 'nothing'}")
        group = file[split]
        missing = {"constituents", "offsets", "labels"} - set(group)
        if missing:
            raise DataError(f"{path}: group {split!r} lacks {', '.join(sorted(missing))}")
        count = len(group["labels"])
        count = count if limit is None else min(limit, count)
        offsets = group["offsets"][: count + 1].astype(np.int64)
        labels = group["labels"][:count].astype(np.int64)
        end = int(offsets[-1]) if limit is not None and len(offsets) else None
        constituents = _constituents(path, group["constituents"], end)
    return Jets(constituents, offsets, labels, f"{path}:{split}")


def _constituents(path: Path, dataset: h5py.Dataset, end: int | None) -> FloatArray:
    if dataset.ndim != 2 or dataset.shape[1] != 4:
        raise DataError(f"{path}: constituents have shape {dataset.shape}, expected (N, 4)")
    place = dataset.id.get_offset()
    if place is not None and dataset.dtype == np.dtype("<f4"):
        mapped = np.memmap(path, np.float32, "r", place, dataset.shape)
        return mapped[:end]
    return dataset[:end].astype(np.float32)


def write(
    path: Path,
    splits: Mapping[str, Jets],
    attributes: Mapping[str, str | int | float],
    *,
    compress: bool = True,
) -> None:
    """Write a packed file under a temporary name, then rename it.

    Parameters
    ----------
    path
        Where the file goes; an existing one is replaced only by a complete new one.
    splits
        Jets by split name.
    attributes
        What to note on the file, such as the generator's settings.
    compress
        Compress losslessly (byte shuffle and gzip: every HDF5 reader can undo it). An
        uncompressed file is larger and memory-mapped when read.
    """
    options = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if compress else {}
    # Built in memory: HDF5 cannot close a file on a full disk, and ends the process over it.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.attrs.update({"format": MARK, "version": VERSION, **attributes})
        for name, jets in splits.items():
            jets.check_structure()
            jets.check_momenta()
            group = file.create_group(name)
            data = group.create_dataset("constituents", data=jets.constituents, **options)
            data.attrs.update({"columns": "E,px,py,pz", "unit": "GeV"})
            group.create_dataset("offsets", data=jets.offsets, **options)
            group.create_dataset("labels", data=jets.labels.astype(np.int8), **options)
        file.flush()
        image = file.id.get_file_image()
    with atomic_path(path) as temporary:
        temporary.write_bytes(image)
