"""Open HDF5 files, and data sets in them, of which nothing is believed that can be checked."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  registers blosc, with which PyTables files are compressed

from data.checksums import Checksums
from data.errors import DataError, listed
from data.probe import check_survives
from data.sizes import MOST_BYTES_AT_ONCE, check_declared

_SMALL = 32 << 20  # bytes of a file that is tried to its end
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Whether ``path`` is a file that starts like an HDF5 file, damaged or not."""
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        return handle.read(len(_SIGNATURE)) == _SIGNATURE


@contextmanager
def open_hdf5(path: Path) -> Iterator[tuple[h5py.File, Checksums]]:
    """Open for reading, with the checksums behind the file (see :mod:`data.checksums`).

    A file without checksums is opened in another process first (see :mod:`data.probe`).
    """
    checksums = Checksums(path)
    if not checksums.present:
        check_survives(path, _walk)
    with h5py.File(path, "r") as file:
        yield file, checksums


def _walk(path: Path) -> None:
    """Look at all that readers look at: attributes, data sets, some of their numbers."""
    is_small = path.stat().st_size <= _SMALL
    with h5py.File(path, "r") as file:
        for name in file.attrs:
            with contextlib.suppress(Exception):
                file.attrs[name]
        _walk_group(path, file, is_small, 4)


def _walk_group(path: Path, group: h5py.Group, is_small: bool, depth: int) -> None:
    for name in group:
        with contextlib.suppress(Exception):
            found = _follow(path, group, name)
            if isinstance(found, h5py.Group) and depth:
                _walk_group(path, found, is_small, depth - 1)
            elif isinstance(found, h5py.Dataset):
                dataset = get_dataset(path, group, name)
                step = max(1, MOST_BYTES_AT_ONCE // max(1, dataset.nbytes // len(dataset)))
                for start in range(0, len(dataset) if is_small else 1, step):
                    dataset[start : start + (step if is_small else 1)]


def get_dataset(path: Path, group: h5py.Group, name: str) -> h5py.Dataset:
    """A data set whose numbers are all in the file.

    Raises
    ------
    DataError
        If it is missing, of another kind, kept in another file, or its size cannot be true.
    """
    place = f"{group.name.rstrip('/')}/{name}"
    found = _follow(path, group, name)
    if not isinstance(found, h5py.Dataset):
        kind = type(found).__name__.lower()
        raise DataError(f"{path}: {place} is a {kind}, where a data set of numbers is expected")
    if found.is_virtual or found.external:
        raise DataError(f"{path}: {place} is kept in other files; copy its data here")
    if found.shape is None:
        raise DataError(f"{path}: {place} has no shape and holds nothing")
    _check_size(path, found, place)
    return found


def get_group(path: Path, group: h5py.Group, name: str) -> h5py.Group:
    """A group of this file; :class:`DataError` if it is missing or of another kind."""
    found = _follow(path, group, name)
    if not isinstance(found, h5py.Group):
        raise DataError(f"{path}: {found.name} is not a group, where one is expected")
    return found


def _follow(path: Path, group: h5py.Group, name: str) -> h5py.HLObject:
    """What stands under a name, without leaving the file."""
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or part not in group:
            has = listed(group if isinstance(group, h5py.Group) else ())
            raise DataError(f"{path}: has no {name!r} in {group.name}, only {has}")
        if isinstance(group.get(part, getlink=True), h5py.ExternalLink):
            raise DataError(f"{path}: {name} is a link to another file; copy its data here")
        group = group[part]
    return group


def _check_size(path: Path, dataset: h5py.Dataset, place: str) -> None:
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    check_declared(path, place, declared, path.stat().st_size)
    if dataset.chunks is None:
        start, present = dataset.id.get_offset(), dataset.id.get_storage_size()
        if start is not None and start + declared > path.stat().st_size:
            present = path.stat().st_size - start
        if present < declared:
            raise DataError(
                f"{path}: {place} declares {declared} bytes and has {max(present, 0)}; the file "
                "was cut short or never finished"
            )
        return
    if math.prod(dataset.chunks) * dataset.dtype.itemsize > MOST_BYTES_AT_ONCE:
        raise DataError(
            f"{path}: {place} is in chunks of {dataset.chunks}, over "
            f"{MOST_BYTES_AT_ONCE >> 20} MiB each; write it with smaller ones"
        )
    chunks = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    if declared and (present := dataset.id.get_num_chunks()) != chunks:
        raise DataError(
            f"{path}: {place} has {present} of its {chunks} chunks; the file was cut short or "
            "never finished"
        )
    check_chunks(path, dataset)


_BLOSC = 32001
_BLOSC_HEADER = struct.Struct("<4xIII")  # bytes decompressed, of a block, and compressed


def check_chunks(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse chunks whose sizes are not what the file says.

    HDF5 and the blosc filter believe what the header of a chunk says of its size, and read on
    behind the end of the chunk where it is wrong.

    Raises
    ------
    DataError
        If a chunk is damaged.
    """
    if dataset.chunks is None:
        return
    declared = math.prod(dataset.chunks) * dataset.dtype.itemsize
    filters = dataset.id.get_create_plist()
    is_blosc = any(filters.get_filter(i)[0] == _BLOSC for i in range(filters.get_nfilters()))
    with open(path, "rb") as file:
        for chunk in _chunks(dataset):
            good = not chunk.filter_mask or chunk.size == declared
            if is_blosc and not chunk.filter_mask:
                file.seek(chunk.byte_offset)
                header = file.read(_BLOSC_HEADER.size)
                good = len(header) == _BLOSC_HEADER.size
                if good:
                    whole, _, compressed = _BLOSC_HEADER.unpack(header)
                    good = (whole, compressed) == (declared, chunk.size)
            if not good:
                raise DataError(
                    f"{path}: the chunk of {dataset.name} at byte {chunk.byte_offset} is damaged; "
                    "fetch the file again"
                )


def _chunks(dataset: h5py.Dataset) -> list[h5py.h5d.StoreInfo]:
    found: list[h5py.h5d.StoreInfo] = []
    dataset.id.chunk_iter(found.append)
    return found


def extents(dataset: h5py.Dataset, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Start and length, in bytes of the file, of what holds rows ``first`` to ``last``."""
    start = dataset.id.get_offset()
    if dataset.chunks is not None:
        for chunk in _chunks(dataset):
            begin = chunk.chunk_offset[0]
            if begin < last and first < begin + dataset.chunks[0]:
                yield chunk.byte_offset, chunk.size
    elif start is not None:
        row = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
        yield start + first * row, (last - first) * row
