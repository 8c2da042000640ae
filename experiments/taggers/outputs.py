"""Write columns of numbers, a row for each jet, as ROOT, Parquet or HDF5 files, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from data.errors import install_hint
from experiments.errors import UserError

Columns = Mapping[str, npt.NDArray[Any]]
Write = Callable[[Columns], None]
TREE = "scores"


@contextmanager
def _root(path: Path, first: Columns, jets: int) -> Iterator[Write]:
    import uproot

    with uproot.recreate(path) as file:
        tree = file.mktree(TREE, {name: values.dtype for name, values in first.items()})
        yield lambda columns: tree.extend(dict(columns))


@contextmanager
def _parquet(path: Path, first: Columns, jets: int) -> Iterator[Write]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.table(dict(first)).schema
    with ParquetWriter(path, schema) as writer:
        yield lambda columns: writer.write_table(pa.table(dict(columns), schema=schema))


@contextmanager
def _hdf5(path: Path, first: Columns, jets: int) -> Iterator[Write]:
    with h5py.File(path, "w") as file:
        for name, values in first.items():
            file.create_dataset(name, (jets,), values.dtype)
        done = 0

        def write(columns: Columns) -> None:
            nonlocal done
            size = len(next(iter(columns.values())))
            for name, values in columns.items():
                file[name][done : done + size] = values
            done += size

        yield write


Writer = Callable[[Path, Columns, int], AbstractContextManager[Write]]
WRITERS: dict[str, Writer] = {".root": _root, ".parquet": _parquet, ".h5": _hdf5}
"""By the suffix of files. Each takes a file, columns such as those that come, and how many jets."""

_PACKAGES = {".root": "uproot", ".parquet": "pyarrow"}


def writer_of(path: Path) -> Writer:
    """The writer of a file.

    Raises
    ------
    UserError
        If there is none of its suffix, or its package is not installed.
    """
    if path.suffix not in WRITERS:
        raise UserError(f"--out {path}: must end in {', '.join(WRITERS)}")
    package = _PACKAGES.get(path.suffix)
    if package is not None and find_spec(package) is None:
        raise UserError(f"--out {path}: needs {package}; {install_hint('root')}")
    return WRITERS[path.suffix]


def plain_name(name: str) -> str:
    """The name of a column in files: without dots, which ROOT takes for branches in branches."""
    return name.replace(".", "_").replace("/", "_")


def as_numbers(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values in this machine's order of bytes, which writers want.

    Raises
    ------
    UserError
        If they are no numbers.
    """
    if values.dtype.kind not in "biuf":
        raise UserError(
            f"--keep {name}: holds {values.dtype}, where a number for each jet is wanted"
        )
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("=")))
