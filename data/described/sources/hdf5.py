"""HDF5 files: data sets, and the fields of compound ones, as ``set.field``.

Programs of ATLAS write ``jets`` ``(J,)`` and ``consts`` ``(J, P)``, both of records; the fields are
then ``jets.pt``, ``consts.pt``, and ``consts.valid``, which tells particles from padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data.errors import DataError, listed
from data.hdf5 import get_dataset, get_group, is_hdf5, open_hdf5

NAME = "HDF5"
_DEPTH = 4


def recognises(path: Path) -> bool:
    """Whether a file starts like an HDF5 file, damaged or not."""
    return is_hdf5(path)


@contextmanager
def opened(path: Path, tree: str | None) -> Iterator[Records]:
    """Open a group; None is the whole file."""
    with open_hdf5(path) as (file, _):
        yield Records(path, file if tree is None else get_group(path, file, tree))


class Records:
    """Data sets of a group with equally many rows.

    Parameters
    ----------
    path
        The file.
    group
        Of h5py.
    """

    def __init__(self, path: Path, group: h5py.Group) -> None:
        self.path = path
        self._places: dict[str, tuple[str, str | None]] = {}
        self._group = group
        self._collect(group, "", _DEPTH)

    def _collect(self, group: h5py.Group, prefix: str, depth: int) -> None:
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                continue
            item, place = group.get(name), f"{prefix}{name}"
            if isinstance(item, h5py.Group) and depth:
                self._collect(item, f"{place}/", depth - 1)
            elif isinstance(item, h5py.Dataset) and item.ndim:
                dotted = place.replace("/", ".")
                if item.dtype.names is None:
                    self._places[dotted] = place, None
                for column in item.dtype.names or ():
                    self._places[f"{dotted}.{column}"] = place, column

    def fields(self) -> tuple[str, ...]:
        """Names of data sets and of fields in them."""
        return tuple(self._places)

    def count(self, names: Sequence[str]) -> int:
        """Rows of fields."""
        if missing := [name for name in names if name not in self._places]:
            raise DataError(f"{self.path}: has no {listed(missing)}, only {listed(self._places)}")
        places = dict.fromkeys(self._places[name][0] for name in names)
        rows = {place: len(self._dataset(place)) for place in places}
        if len(set(rows.values())) != 1:
            numbers = ", ".join(f"{place} {count:,}" for place, count in rows.items())
            raise DataError(f"{self.path}: data sets have different numbers of rows: {numbers}")
        return next(iter(rows.values()))

    def _dataset(self, place: str) -> h5py.Dataset:
        return get_dataset(self.path, self._group, place)

    def read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Rows ``start`` to ``stop``."""
        import awkward as ak

        self.count(names)
        found = {}
        for name in names:
            place, column = self._places[name]
            dataset = self._dataset(place)
            values = dataset[start:stop] if column is None else dataset.fields(column)[start:stop]
            if values.dtype.kind not in "biuf":
                raise DataError(f"{self.path}: {name} holds {values.dtype}, not numbers")
            found[name] = ak.from_numpy(np.ascontiguousarray(values), regulararray=True)
        return found
