"""Whole events in files: HDF5 of ours, and rows of numbers as in public data sets.

In HDF5, ``/{train,val,test}/momenta`` is ``(N, P, 4)`` float32 (E, px, py, pz) in GeV, and where
it is there, ``detected`` the same of what a detector sees. File attributes: ``format``
(:data:`MARK`), ``names``, ``masses`` (null for jets), ``pt``, ``delta_r`` and ``eta`` of the cuts.
A row (:mod:`data.rows`) is the momenta of all particles, one after the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from data.errors import DataError
from data.events.final_state import FinalState, FloatArray, mass_squared
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

MARK = "lgatr-events"
_OFF_SHELL = 1e-5
"""Of the squared energy: public files have momenta in float32."""


@dataclass(frozen=True)
class Sample:
    """Events of one kind.

    Parameters
    ----------
    momenta
        ``(N, P, 4)`` in GeV.
    detected
        The same as a detector sees them, or None.
    final_state
        What an event is.
    """

    momenta: FloatArray
    detected: FloatArray | None
    final_state: FinalState


def write(
    path: Path,
    splits: Mapping[str, Sample],
    attributes: Mapping[str, str | int | float],
) -> None:
    """Write a file of ours under a temporary name, then rename it.

    Parameters
    ----------
    path
        Where the file goes; an existing one is replaced only by a complete new one.
    splits
        Events by split name, at least one.
    attributes
        What else to note on the file.
    """
    arrays = {}
    for name, sample in splits.items():
        arrays[name] = {"momenta": sample.momenta.astype(np.float32)}
        if sample.detected is not None:
            arrays[name]["detected"] = sample.detected.astype(np.float32)
    state = next(iter(splits.values())).final_state
    marks: dict[str, str | int | float] = {
        "format": MARK, "version": 1,
        "names": json.dumps(list(state.names)), "masses": json.dumps(list(state.masses)),
        "pt": state.cuts.pt, "delta_r": state.cuts.delta_r, "eta": state.cuts.eta,
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
        If the file is damaged or of another kind, or an event is none: energies or masses are
        negative, cuts are not passed, or numbers are missing.
    """
    require_file(path)
    with reading(path):
        if not has_mark(path, MARK):
            raise DataError(
                f"{path}: neither a file of python -m data.generate ttbar or zmumu nor rows of "
                f"numbers (.npy){advice(path)}"
            )
        return _read_ours(path, split, limit)


def read_rows(rows: Rows, final_state: FinalState, chosen: Choose | None = None) -> Sample:
    """Read and check events of rows of numbers.

    Parameters
    ----------
    rows
        Where they are.
    final_state
        What an event is.
    chosen
        Which rows; None for all.

    Raises
    ------
    DataError
        As of :func:`read`.
    """
    particles = len(final_state.names)
    what = f"four for each of {particles} particles"
    found, start = rows.read(4 * particles, what, chosen)
    sample = Sample(found.reshape(-1, particles, 4), None, final_state)
    return checked(rows.path, sample, start)


def _read_ours(path: Path, split: str, limit: int | None) -> Sample:
    with open_hdf5(path) as (file, checksums):
        plain = {
            "names": read_list(path, file, "names", str, "names"),
            "masses": read_list(path, file, "masses", (int, float, type(None)), "numbers, or null"),
            "cuts": {name: _number(file, name) for name in ("pt", "delta_r", "eta")},
        }
        try:
            state = FinalState.from_plain(plain)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        group = get_group(path, file, split)
        momenta = read_table(path, group, "momenta", limit, checksums)
        detected = None
        if "detected" in group:
            detected = read_table(path, group, "detected", limit, checksums)
    return checked(path, Sample(momenta, detected, state))


def _number(file: h5py.File, name: str) -> float:
    try:
        return float(file.attrs[name])
    except (KeyError, TypeError, ValueError):
        return math.nan


def checked(path: Path, sample: Sample, start: int = 0) -> Sample:
    """``sample``, if all its events are events; else :class:`DataError` about the first.

    Its first event is number ``start`` of the file.
    """
    state = sample.final_state
    require = partial(require_all, path, start=start)
    wanted = (len(sample.momenta), len(state.names), 4)
    for name, momenta in (("momenta", sample.momenta), ("detected", sample.detected)):
        if momenta is None:
            continue
        if momenta.shape != wanted:
            raise DataError(f"{path}: {name} {momenta.shape}, where {wanted} are wanted")
        if not len(momenta):
            raise DataError(f"{path}: holds no events")
        finite = np.all(np.isfinite(momenta), axis=(1, 2))
        require(finite, f"has {name} that are not finite")
        energy = momenta[..., 0]
        require(np.all(energy > 0, axis=1), f"has {name} with an energy that is not positive")
        m2, scale = mass_squared(momenta), energy**2
        require(
            np.all(m2 > -_OFF_SHELL * scale, axis=1),
            f"has {name} with a negative squared mass",
        )
        masses = np.array([np.nan if mass is None else mass for mass in state.masses])
        with np.errstate(invalid="ignore"):
            off = np.abs(m2 - masses**2) > _OFF_SHELL * scale
        require(~np.any(off, axis=1), f"has {name} of particles off shell", "check the masses")
    require(state.passed(sample.momenta), "fails the cuts", "leave such events out, or check them")
    return sample
