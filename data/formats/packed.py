"""Our own format: ragged float32 constituents with offsets, one HDF5 group per split.

``/{train,val,test}/constituents`` is ``(N, 4)`` float32 ``(E, px, py, pz)`` in GeV; ``offsets`` is
``(J + 1,)`` int64; ``labels`` is ``(J,)`` int8, numbers of the names in the file attribute
``classes`` (JSON). ``particles/NAME`` ``(N,)`` and ``jets/NAME`` ``(J,)`` are further float32
columns; see :mod:`data.columns` for their names and units. The file attribute ``format`` is
:data:`MARK`. Uncompressed data sets are memory-mapped, compressed ones are read into memory. From
version 3 on, checksums follow the HDF5 file (see :mod:`data.checksums`).
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from data.atomic import as_utf8, atomic_path
from data.checksums import Checksums, checksums_of
from data.errors import DataError
from data.hdf5 import extents, get_dataset, get_group, is_hdf5, open_hdf5
from data.jets import BINARY, FloatArray, Jets, as_labels, check_numbers
from data.reading import Snapshot
from data.shards import visible

NAME = "packed HDF5 (ours)"
MARK = "lgatr-packed-jets"
VERSION = 3  # 1 had no classes and no columns, 2 no checksums

Rows = tuple[int, int] | None
"""From, to; None is all."""


def recognises(file: Path) -> bool:
    """Whether ``file`` is an HDF5 file that carries our mark."""
    if not is_hdf5(file):
        return False
    with open_hdf5(file) as (content, _):
        return _text(file, content, "format", "", f"the text {MARK}") == MARK


def files(path: Path, split: str) -> list[Path]:
    """Files of a split: the file itself, or those in the folder named by the split."""
    return visible((path / split).rglob("*.h5")) if path.is_dir() else [path]


def count(path: Path, split: str) -> int:
    """Jets of a split in a file."""
    with open_hdf5(path) as (file, _):
        return len(_labels(path, get_group(path, file, split)))


def _labels(path: Path, group: h5py.Group) -> h5py.Dataset:
    labels = get_dataset(path, group, "labels")
    if labels.ndim != 1:
        raise DataError(f"{path}: labels have shape {labels.shape}, expected (jets,)")
    return labels


def _wrong(path: Path, name: str, wanted: str, value: object) -> DataError:
    return DataError(f"{path}: attribute {name} must be {wanted}, not {reprlib.repr(value)}")


def _text(path: Path, file: h5py.File, name: str, default: str, wanted: str) -> str:
    """A text attribute, also of fixed length and padded, as C and Fortran write it."""
    value = file.attrs.get(name, default)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace").rstrip("\0 ")
    if not isinstance(value, str):
        raise _wrong(path, name, wanted, value)
    return value


def _version(path: Path, file: h5py.File) -> int:
    value = file.attrs.get("version", 1)
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise _wrong(path, "version", "a whole number, such as 2", value)
    return int(value)


def _classes(path: Path, file: h5py.File) -> tuple[str, ...]:
    wanted = 'text with a JSON list of names, such as ["background", "signal"]'
    text = _text(path, file, "classes", json.dumps(BINARY), wanted)
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(path, "classes", wanted, text) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _wrong(path, "classes", wanted, text)
    return tuple(names)


def read_file(path: Path, split: str, start: int = 0, stop: int | None = None) -> Jets:
    """Some jets of a file."""
    with open_hdf5(path) as (file, checksums):
        if _version(path, file) >= 3 and not checksums.present:
            raise DataError(
                f"{path}: has no checksums, which files with attribute version 3 end with; a file "
                "of your own program needs version 2 (see docs/data.md), any other was cut short "
                "or changed: convert or generate it again"
            )
        reader = _Reader(path, get_group(path, file, split), checksums)
        jets = len(_labels(path, reader.group))
        stop = jets if stop is None else min(stop, jets)
        offsets = reader.offsets(start, stop, jets)
        # All rows, if all jets are wanted: whether they are as many is checked later.
        rows = (int(offsets[0]), int(offsets[-1])) if (start, stop) != (0, jets) else None
        momenta = reader.floats("constituents", rows, 2)
        if momenta.shape[1:] != (4,):
            raise DataError(f"{path}: constituents have shape {momenta.shape}, expected (N, 4)")
        columns = {
            kind: {
                name: reader.floats(f"{kind}/{name}", part, 1)
                for name in (get_group(path, reader.group, kind) if kind in reader.group else ())
            }
            for kind, part in (("particles", rows), ("jets", (start, stop)))
        }
        source = f"{path}:{split}"
        labels = as_labels(reader.numbers("labels", (start, stop), 1), source)
        offsets = offsets - offsets[0] if start else offsets
        classes = _classes(path, file)
    mapped = Snapshot.of(path)
    return Jets(momenta, offsets, labels, source, classes, **columns, snapshot=mapped)


class _Reader:
    """Rows of the data sets of a split, verified."""

    def __init__(self, path: Path, group: h5py.Group, checksums: Checksums) -> None:
        self.path, self.group, self.checksums = path, group, checksums

    def _open(self, name: str, rows: Rows, ndim: int) -> tuple[h5py.Dataset, slice]:
        dataset = get_dataset(self.path, self.group, name)
        check_numbers(dataset.dtype, f"{self.path}:{dataset.name}")
        if dataset.ndim != ndim:
            raise DataError(
                f"{self.path}: {dataset.name} has shape {dataset.shape}, expected {ndim} axes"
            )
        first, last = (0, len(dataset)) if rows is None else rows
        if self.checksums.present:
            for start, length in extents(dataset, first, last):
                self.checksums.verify(start, length)
        return dataset, slice(first, last)

    def numbers(self, name: str, rows: Rows, ndim: int) -> np.ndarray:
        """Copied from the file."""
        dataset, part = self._open(name, rows, ndim)
        return np.asarray(dataset[part])

    def floats(self, name: str, rows: Rows, ndim: int) -> FloatArray:
        """Mapped where possible."""
        dataset, part = self._open(name, rows, ndim)
        place = dataset.id.get_offset()
        if place is not None and dataset.size and dataset.dtype == np.dtype("<f4"):
            return np.memmap(self.path, np.float32, "r", place, dataset.shape)[part]
        return dataset[part].astype(np.float32)

    def offsets(self, start: int, stop: int, jets: int) -> np.ndarray:
        """Of jets ``start`` to ``stop``, as they stand in the file."""
        rows = len(get_dataset(self.path, self.group, "constituents"))
        found = self.numbers("offsets", (start, stop + 1), 1)
        if len(found) != stop - start + 1 or len(self.group["offsets"]) != jets + 1:
            raise DataError(
                f"{self.path}: {len(self.group['offsets'])} offsets for {jets} labels; there must "
                "be one more"
            )
        if found.dtype.kind not in "iu" or found[0] < 0 or found[-1] > rows or found[0] > found[-1]:
            raise DataError(
                f"{self.path}: offsets must be whole numbers that rise from 0 to the number of "
                f"constituents ({rows}); the file is damaged or was cut short"
            )
        return found.astype(np.int64)


def write(
    path: Path,
    splits: Mapping[str, Jets],
    attributes: Mapping[str, str | int | float],
    *,
    compress: bool = True,
) -> None:
    """Write a packed file under a temporary name, then rename it.

    The same jets and attributes give the same bytes, with the same versions of HDF5 and zlib.

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
        (names,) = {jets.classes for jets in splits.values()}
        classes, label_type = json.dumps(names), np.int8 if len(names) <= 128 else np.int32
        file.attrs.update({"format": MARK, "version": VERSION, "classes": classes})
        for name, value in attributes.items():
            file.attrs[name] = as_utf8(value) if isinstance(value, str) else value
        for name, jets in splits.items():
            jets.check()
            group = file.create_group(name)
            data = group.create_dataset("constituents", data=jets.constituents, **options)
            data.attrs.update({"columns": "E,px,py,pz", "unit": "GeV"})
            group.create_dataset("offsets", data=jets.offsets, **options)
            group.create_dataset("labels", data=jets.labels.astype(label_type), **options)
            for kind, columns in (("particles", jets.particles), ("jets", jets.jets)):
                for column, values in columns.items():
                    group.create_dataset(f"{kind}/{column}", data=values, **options)
        file.flush()
        datasets: list[h5py.Dataset] = []
        file.visititems(lambda _, item: datasets.append(item) if _is_dataset(item) else None)
        numbers = [place for data in datasets for place in extents(data, 0, len(data))]
        content = file.id.get_file_image()
    with atomic_path(path) as temporary, open(temporary, "wb") as target:
        target.write(content)
        target.write(checksums_of(content, numbers))


def _is_dataset(item: h5py.HLObject) -> bool:
    return isinstance(item, h5py.Dataset)
