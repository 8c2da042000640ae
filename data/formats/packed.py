"""Our own format: ragged float32 constituents with offsets, one HDF5 group per split.

``/{train,val,test}/constituents`` is ``(N, 4)`` float32 ``(E, px, py, pz)`` in GeV, sorted by
falling pT within a jet; ``offsets`` is ``(J + 1,)`` int64; ``labels`` is ``(J,)`` int8, numbers
of the names in the file attribute ``classes`` (JSON). ``particles/NAME`` ``(N,)`` and ``jets/NAME``
``(J,)`` are further float32 columns; see :mod:`data.columns` for their names and units. The file
attribute ``format`` is :data:`MARK`. Uncompressed data sets are memory-mapped, compressed ones are
read into memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from data.atomic import atomic_path
from data.errors import DataError
from data.hdf5 import is_hdf5, open_hdf5
from data.jets import BINARY, FloatArray, Jets
from data.shards import read_shards

NAME = "packed HDF5 (ours)"
MARK = "lgatr-packed-jets"
VERSION = 2  # 1 had no classes and no columns


def _is_packed(path: Path) -> bool:
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return file.attrs.get("format") == MARK


def recognises(path: Path) -> bool:
    """Whether ``path`` is an HDF5 file that carries our mark, or a folder of folders of such."""
    if path.is_dir():
        return any(_is_packed(f) for split in ("train", "val", "test") for f in files(path, split))
    return _is_packed(path)


def files(path: Path, split: str) -> list[Path]:
    """Files of a split: the file itself, or those in the folder named by the split."""
    return [path] if path.is_file() else sorted((path / split).glob("*.h5"))


def _group(path: Path, file: h5py.File, split: str) -> h5py.Group:
    if split not in file:
        raise DataError(f"{path}: has no group {split!r}, only {', '.join(file) or 'nothing'}")
    group = file[split]
    missing = {"constituents", "offsets", "labels"} - set(group)
    if missing:
        raise DataError(f"{path}: group {split!r} lacks {', '.join(sorted(missing))}")
    return group


def count(path: Path, split: str) -> int:
    """Jets of a split in a file."""
    with open_hdf5(path) as file:
        return len(_group(path, file, split)["labels"])


def read_file(path: Path, split: str, start: int = 0, stop: int | None = None) -> Jets:
    """Some jets of a file."""
    with open_hdf5(path) as file:
        group = _group(path, file, split)
        jets = len(group["labels"])
        stop = jets if stop is None else min(stop, jets)
        offsets = group["offsets"][start : stop + 1].astype(np.int64)
        constituents = group["constituents"]
        if constituents.ndim != 2 or constituents.shape[1] != 4:
            shape = constituents.shape
            raise DataError(f"{path}: constituents have shape {shape}, expected (N, 4)")
        whole = (start, stop) == (0, jets)
        rows = slice(None) if whole else slice(int(offsets[0]), int(offsets[-1]))
        columns = {
            kind: {name: _array(path, group[kind][name], part) for name in group.get(kind, ())}
            for kind, part in (("particles", rows), ("jets", slice(start, stop)))
        }
        momenta = _array(path, constituents, rows)
        labels = group["labels"][start:stop].astype(np.int64)
        classes = tuple(json.loads(file.attrs["classes"])) if "classes" in file.attrs else BINARY
    offsets = offsets - offsets[0] if start else offsets
    return Jets(momenta, offsets, labels, f"{path}:{split}", classes, **columns)


def read(path: Path, split: str, limit: int | None = None) -> Jets:
    """One split; see :func:`data.formats.read_jets`."""
    if path.is_dir():
        return read_shards(files(path, split), read_file, path, split, limit)
    return read_file(path, split, 0, limit)


def _array(path: Path, dataset: h5py.Dataset, part: slice) -> FloatArray:
    place = dataset.id.get_offset()
    if place is not None and dataset.dtype == np.dtype("<f4"):
        mapped = np.memmap(path, np.float32, "r", place, dataset.shape)
        return mapped[part]
    return dataset[part].astype(np.float32)


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
        classes = json.dumps(next(iter(splits.values())).classes)
        file.attrs.update({"format": MARK, "version": VERSION, "classes": classes, **attributes})
        for name, jets in splits.items():
            jets.check_structure()
            jets.check_momenta()
            group = file.create_group(name)
            data = group.create_dataset("constituents", data=jets.constituents, **options)
            data.attrs.update({"columns": "E,px,py,pz", "unit": "GeV"})
            group.create_dataset("offsets", data=jets.offsets, **options)
            group.create_dataset("labels", data=jets.labels.astype(np.int8), **options)
            for kind, columns in (("particles", jets.particles), ("jets", jets.jets)):
                for column, values in columns.items():
                    group.create_dataset(f"{kind}/{column}", data=values, **options)
        file.flush()
        image = file.id.get_file_image()
    with atomic_path(path) as temporary:
        temporary.write_bytes(image)
