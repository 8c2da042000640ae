"""Amplitudes in files: HDF5 of ours, and rows of numbers (``.npy``) as in public data sets.

In HDF5, ``/{train,val,test}/momenta`` is ``(N, particles, 4)`` float64 (E, px, py, pz) in GeV, two
incoming particles first, and ``amplitudes`` ``(N,)`` float64. File attributes: ``format``
(:data:`MARK`), ``process``, ``types`` and ``masses``. A row of a ``.npy`` file is the momenta of
all particles, one after the other, then the amplitude.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data.amplitudes.arrays import BoolArray, FloatArray
from data.amplitudes.processes import Events
from data.atomic import as_utf8, atomic_path
from data.checksums import Checksums, checksums_of
from data.errors import DataError
from data.hdf5 import extents, get_dataset, get_group, is_hdf5, open_hdf5
from data.reading import reading

MARK = "lgatr-amplitudes"
_NOT_CONSERVED = 1e-5
"""Of the energy: public files have momenta in float32."""
_OFF_SHELL = 1e-5
"""Of the squared energy."""


@dataclass(frozen=True)
class Sample:
    """Events of one process.

    Parameters
    ----------
    momenta
        ``(N, particles, 4)`` in GeV, two incoming particles first.
    amplitudes
        ``(N,)``, above zero.
    types
        A number for each particle, the same for particles of one kind.
    masses
        In GeV, one for each particle.
    """

    momenta: FloatArray
    amplitudes: FloatArray
    types: tuple[int, ...]
    masses: tuple[float, ...]


def write(
    path: Path,
    splits: Mapping[str, Events],
    process: str,
    types: Sequence[int],
    masses: Sequence[float],
    attributes: Mapping[str, str | int | float],
) -> None:
    """Write a file of ours under a temporary name, then rename it.

    Parameters
    ----------
    path
        Where the file goes; an existing one is replaced only by a complete new one.
    splits
        Events by split name.
    process, types, masses
        What scatters.
    attributes
        What else to note on the file.
    """
    # Built in memory: HDF5 cannot close a file on a full disk, and ends the process over it.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.attrs.update({"format": MARK, "version": 1, "process": process})
        file.attrs.update({"types": json.dumps(list(types)), "masses": json.dumps(list(masses))})
        for name, value in attributes.items():
            file.attrs[name] = as_utf8(value) if isinstance(value, str) else value
        datasets = []
        for name, events in splits.items():
            group = file.create_group(name)
            momenta = group.create_dataset("momenta", data=events.momenta)
            momenta.attrs.update({"columns": "E,px,py,pz", "unit": "GeV"})
            datasets += [momenta, group.create_dataset("amplitudes", data=events.amplitudes)]
        file.flush()
        numbers = [place for data in datasets for place in extents(data, 0, len(data))]
        content = file.id.get_file_image()
    with atomic_path(path) as temporary, open(temporary, "wb") as target:
        target.write(content)
        target.write(checksums_of(content, numbers))


def is_ours(path: Path) -> bool:
    """Whether a file carries our mark."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as (file, _):
        return bool(file.attrs.get("format") == MARK)


def read(
    path: Path,
    split: str,
    limit: int | None = None,
    types: Sequence[int] | None = None,
    masses: Sequence[float] | None = None,
) -> Sample:
    """Read and check events.

    Parameters
    ----------
    path
        A file of ours, or rows of numbers, which have no splits: all of them are read.
    split
        ``train``, ``val`` or ``test``.
    limit
        The first so many events; None is all.
    types, masses
        What scatters, if the file does not tell.

    Raises
    ------
    DataError
        If the file is damaged or of another kind, or an event is none: energies, masses or the
        amplitude are not positive, momentum is not conserved, or numbers are missing.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with reading(path):
        return _read(path, split, limit, types, masses)


def _read(
    path: Path,
    split: str,
    limit: int | None,
    types: Sequence[int] | None,
    masses: Sequence[float] | None,
) -> Sample:
    if is_ours(path):
        return _read_ours(path, split, limit)
    if path.suffix != ".npy":
        raise DataError(
            f"{path}: neither a file of python -m data.generate amplitudes nor rows of numbers "
            "(.npy)"
        )
    if types is None or masses is None:
        raise DataError(f"{path}: does not tell what scatters; give data.types and data.masses")
    rows = _rows(path, 4 * len(types) + 1, limit)
    momenta = rows[:, :-1].reshape(len(rows), len(types), 4)
    return checked(path, Sample(momenta, rows[:, -1].copy(), tuple(types), tuple(masses)))


def _read_ours(path: Path, split: str, limit: int | None) -> Sample:
    with open_hdf5(path) as (file, checksums):
        types, masses = _list(path, file, "types", int), _list(path, file, "masses", (int, float))
        group = get_group(path, file, split)
        momenta = _numbers(path, group, "momenta", limit, checksums)
        amplitudes = _numbers(path, group, "amplitudes", limit, checksums)
    if momenta.shape[1:] != (len(types), 4) or amplitudes.ndim != 1:
        raise DataError(
            f"{path}: momenta {momenta.shape} and amplitudes {amplitudes.shape}, where "
            f"(events, {len(types)}, 4) and (events,) belong to {len(types)} types"
        )
    return checked(path, Sample(momenta, amplitudes, tuple(types), tuple(map(float, masses))))


def _list(path: Path, file: h5py.File, name: str, kind: Any) -> list[Any]:
    try:
        found = json.loads(file.attrs.get(name, ""))
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(
        isinstance(x, kind) and not isinstance(x, bool) for x in found
    ):
        raise DataError(f"{path}: attribute {name} must be a JSON list of numbers")
    return found


def _numbers(
    path: Path, group: h5py.Group, name: str, limit: int | None, checksums: Checksums
) -> FloatArray:
    dataset = get_dataset(path, group, name)
    if dataset.dtype.kind != "f" or not dataset.ndim:
        raise DataError(f"{path}: {dataset.name} holds {dataset.dtype}, not floating-point numbers")
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if checksums.present:
        for start, length in extents(dataset, 0, count):
            checksums.verify(start, length)
    return np.asarray(dataset[:count], dtype=np.float64)


def _rows(path: Path, columns: int, limit: int | None) -> FloatArray:
    """Rows of a ``.npy`` file, of which only those that are wanted are read."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from error
    if found.dtype.kind != "f" or found.ndim != 2 or found.shape[1] != columns:
        raise DataError(
            f"{path}: holds {found.dtype} {found.shape}, where rows of {columns} floating-point "
            "numbers are wanted: four for each particle, and the amplitude"
        )
    return np.array(found[: len(found) if limit is None else limit], dtype=np.float64)


def checked(path: Path, sample: Sample) -> Sample:
    """``sample``, if all its events are events; else :class:`DataError` about the first."""
    momenta, amplitudes = sample.momenta, sample.amplitudes
    if len(sample.types) != len(sample.masses) or momenta.shape[1] != len(sample.types):
        raise DataError(
            f"{path}: {momenta.shape[1]} particles, {len(sample.types)} types and "
            f"{len(sample.masses)} masses; there is one of each for every particle"
        )
    if not len(momenta):
        raise DataError(f"{path}: holds no events")
    if len(momenta) != len(amplitudes):
        raise DataError(f"{path}: {len(momenta)} events, but {len(amplitudes)} amplitudes")
    energy = momenta[..., 0]
    scale = energy[:, :2].sum(axis=1)
    finite = np.all(np.isfinite(momenta), axis=(1, 2)) & np.isfinite(amplitudes)
    _all(path, finite, "holds numbers that are not finite")
    _all(path, np.all(energy >= 0, axis=1), "has a negative energy")
    _all(path, amplitudes > 0, "has an amplitude that is not positive")
    missing = momenta[:, :2].sum(axis=1) - momenta[:, 2:].sum(axis=1)
    conserved = (np.abs(missing) <= _NOT_CONSERVED * scale[:, None]).all(axis=1)
    _all(path, conserved, "does not conserve momentum (are the first two particles incoming?)")
    m2 = energy**2 - (momenta[..., 1:] ** 2).sum(axis=-1)
    on_shell = np.abs(m2 - np.square(sample.masses)) <= _OFF_SHELL * scale[:, None] ** 2
    _all(path, np.all(on_shell, axis=1), "has particles that are not on shell; check the masses")
    return sample


def _all(path: Path, right: BoolArray, what: str) -> None:
    if not right.all():
        first, count = int(np.argmin(right)), int((~right).sum())
        others = f"; so do {count - 1:,} others" if count > 1 else ""
        raise DataError(f"{path}: event {first} {what}{others}")
