"""Arrays of numbers in HDF5 files of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from data.atomic import as_utf8, atomic_path
from data.checksums import Checksums, checksums_of
from data.errors import DataError
from data.hdf5 import extents, get_dataset, is_hdf5, open_hdf5

FloatArray = npt.NDArray[np.floating[Any]]


def write_tables(
    path: Path,
    splits: Mapping[str, Mapping[str, FloatArray]],
    attributes: Mapping[str, str | int | float],
) -> None:
    """Write a file under a temporary name, with checksums of its numbers, then rename it.

    Parameters
    ----------
    path
        Where the file goes; an existing one is replaced only by a complete new one.
    splits
        Arrays by name, for each split. Those of four-momenta are called so by their attributes.
    attributes
        What to note on the file.
    """
    # Built in memory: HDF5 cannot close a file on a full disk, and ends the process over it.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        for name, value in attributes.items():
            file.attrs[name] = as_utf8(value) if isinstance(value, str) else value
        datasets = []
        for split, arrays in splits.items():
            group = file.create_group(split)
            for name, values in arrays.items():
                dataset = group.create_dataset(name, data=values)
                if values.shape[-1:] == (4,):
                    dataset.attrs.update({"columns": "E,px,py,pz", "unit": "GeV"})
                datasets.append(dataset)
        file.flush()
        numbers = [place for data in datasets for place in extents(data, 0, len(data))]
        content = file.id.get_file_image()
    with atomic_path(path) as temporary, open(temporary, "wb") as target:
        target.write(content)
        target.write(checksums_of(content, numbers))


def has_mark(path: Path, mark: str) -> bool:
    """Whether an HDF5 file says that it is of this format."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as (file, _):
        return bool(file.attrs.get("format") == mark)


def read_list(path: Path, file: h5py.File, name: str, kind: Any, what: str) -> list[Any]:
    """A list that an attribute holds as JSON, whose members are of a kind, called ``what``."""
    try:
        found = json.loads(file.attrs.get(name, ""))
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(
        isinstance(x, kind) and not isinstance(x, bool) for x in found
    ):
        raise DataError(f"{path}: attribute {name} must be a JSON list of {what}")
    return found


def read_table(
    path: Path, group: h5py.Group, name: str, limit: int | None, checksums: Checksums
) -> npt.NDArray[np.float64]:
    """An array, or its first ``limit`` rows, as float64."""
    dataset = get_dataset(path, group, name)
    if dataset.dtype.kind != "f" or not dataset.ndim:
        raise DataError(f"{path}: {dataset.name} holds {dataset.dtype}, not floating-point numbers")
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if checksums.present:
        for start, length in extents(dataset, 0, count):
            checksums.verify(start, length)
    return np.asarray(dataset[:count], dtype=np.float64)


def require_file(path: Path) -> None:
    """Raise :class:`DataError` unless there is a file."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file in it")
    if not path.is_file():
        raise DataError(f"{path}: no such file")


def require_all(
    path: Path,
    right: npt.NDArray[np.bool_],
    what: str,
    advice: str = "leave such events out of the file",
    start: int = 0,
) -> None:
    """Raise :class:`DataError` about the first event that is not right, and how many others.

    Events are numbered from ``start``, that of the first in the file.
    """
    if not right.all():
        first, count = int(np.argmin(right)) + start, int((~right).sum())
        others = f" (and {count - 1:,} others)" if count > 1 else ""
        raise DataError(f"{path}: event {first}{others} {what}; {advice}")
