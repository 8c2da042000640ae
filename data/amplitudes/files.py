"""Amplitudes in files: HDF5 of ours, and rows of numbers as in public data sets.

In HDF5, ``/{train,val,test}/momenta`` is ``(N, particles, 4)`` float64 (E, px, py, pz) in GeV, two
incoming particles first, and ``amplitudes`` ``(N,)`` float64. File attributes: ``format``
(:data:`MARK`), ``process``, ``types`` and ``masses``. A row (:mod:`data.rows`) is the momenta of
all particles, one after the other, then the amplitude.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data.amplitudes.arrays import FloatArray
from data.amplitudes.processes import Events
from data.errors import DataError
from data.hdf5 import get_group, open_hdf5
from data.reading import reading
from data.rows import Choose, Rows, advice
from data.tables import (
    has_mark,
    read_list,
    read_table,
    require_all,
    require_file,
    write_tables,
)

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
    arrays = {
        name: {"momenta": events.momenta, "amplitudes": events.amplitudes}
        for name, events in splits.items()
    }
    marks: dict[str, str | int | float] = {
        "format": MARK, "version": 1, "process": process,
        "types": json.dumps(list(types)), "masses": json.dumps(list(masses)),
    }  # fmt: skip
    write_tables(path, arrays, {**marks, **attributes})


def read(path: Path, split: str, limit: int | None = None) -> Sample:
    """Read and check events of a file of ours.

    Parameters
    ----------
    path
        The file.
    split
        ``train``, ``val`` or ``test``.
    limit
        The first so many events; None is all.

    Raises
    ------
    DataError
        If the file is damaged or of another kind, or an event is none: energies, masses or the
        amplitude are not positive, momentum is not conserved, or numbers are missing.
    """
    require_file(path)
    with reading(path):
        if not has_mark(path, MARK):
            raise DataError(
                f"{path}: neither a file of python -m data.generate amplitudes nor rows of "
                f"numbers (.npy){advice(path)}"
            )
        return _read_ours(path, split, limit)


def read_rows(
    rows: Rows, types: Sequence[int], masses: Sequence[float], chosen: Choose | None = None
) -> Sample:
    """Read and check events of rows of numbers.

    Parameters
    ----------
    rows
        Where they are.
    types, masses
        What scatters.
    chosen
        Which rows; None for all.

    Raises
    ------
    DataError
        As of :func:`read`.
    """
    what = "four for each particle, and the amplitude"
    found, start = rows.read(4 * len(types) + 1, what, chosen)
    momenta = found[:, :-1].reshape(len(found), len(types), 4)
    sample = Sample(momenta, found[:, -1].copy(), tuple(types), tuple(masses))
    return checked(rows.path, sample, start)


def _read_ours(path: Path, split: str, limit: int | None) -> Sample:
    with open_hdf5(path) as (file, checksums):
        types = read_list(path, file, "types", int, "numbers")
        masses = read_list(path, file, "masses", (int, float), "numbers")
        group = get_group(path, file, split)
        momenta = read_table(path, group, "momenta", limit, checksums)
        amplitudes = read_table(path, group, "amplitudes", limit, checksums)
    if momenta.shape[1:] != (len(types), 4) or amplitudes.ndim != 1:
        raise DataError(
            f"{path}: momenta {momenta.shape} and amplitudes {amplitudes.shape}, where "
            f"(events, {len(types)}, 4) and (events,) belong to {len(types)} types"
        )
    return checked(path, Sample(momenta, amplitudes, tuple(types), tuple(map(float, masses))))


def checked(path: Path, sample: Sample, start: int = 0) -> Sample:
    """``sample``, if all its events are events; else :class:`DataError` about the first.

    Its first event is number ``start`` of the file.
    """
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
    require = partial(require_all, path, start=start)
    finite = np.all(np.isfinite(momenta), axis=(1, 2)) & np.isfinite(amplitudes)
    require(finite, "holds numbers that are not finite")
    require(np.all(energy >= 0, axis=1), "has a negative energy")
    require(amplitudes > 0, "has an amplitude that is not positive")
    missing = momenta[:, :2].sum(axis=1) - momenta[:, 2:].sum(axis=1)
    conserved = (np.abs(missing) <= _NOT_CONSERVED * scale[:, None]).all(axis=1)
    require(conserved, "does not conserve momentum (are the first two particles incoming?)")
    m2 = energy**2 - (momenta[..., 1:] ** 2).sum(axis=-1)
    on_shell = np.abs(m2 - np.square(sample.masses)) <= _OFF_SHELL * scale[:, None] ** 2
    require(
        np.all(on_shell, axis=1),
        "has particles that are not on shell",
        "check the masses",
    )
    return sample
