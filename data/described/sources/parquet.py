"""Parquet files: their columns, row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.errors import DataError, install_hint, listed
from data.sizes import check_declared

NAME = "Parquet"
_MAGIC = b"PAR1"


def recognises(path: Path) -> bool:
    """Whether a file starts like a Parquet file, damaged or not."""
    with open(path, "rb") as handle:
        return handle.read(len(_MAGIC)) == _MAGIC


@contextmanager
def opened(path: Path, tree: str | None) -> Iterator[Table]:
    """Open a table; there is one in each file."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(f"{path}: Parquet files need pyarrow; {install_hint('root')}") from error
    if tree is not None:
        raise DataError(f"{path}: a Parquet file holds one table and no {tree!r}; leave tree out")
    with ParquetFile(path) as file:
        yield Table(path, file)


class Table:
    """An opened table.

    Parameters
    ----------
    path
        The file.
    file
        Of pyarrow.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self.file = path, file

    def fields(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.file.schema_arrow.names)

    def count(self, names: Sequence[str]) -> int:
        """Rows of the table."""
        if missing := [name for name in names if name not in self.fields()]:
            raise DataError(f"{self.path}: has no column {listed(missing)}")
        return int(self.file.metadata.num_rows)

    def read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Rows ``start`` to ``stop`` of columns."""
        import awkward as ak
        import pyarrow as pa

        self.count(names)
        first, groups, before = 0, [], 0
        for number in range(self.file.metadata.num_row_groups):
            group = self.file.metadata.row_group(number)
            if first < stop and start < first + group.num_rows:
                check_declared(
                    self.path, f"row group {number}", group.total_byte_size,
                    self.path.stat().st_size,
                )  # fmt: skip
                groups.append(number)
            elif not groups:
                before = first + group.num_rows
            first += group.num_rows
        table = self.file.read_row_groups(groups, columns=list(names), use_threads=False)
        table = table.slice(start - before if groups else 0, stop - start).combine_chunks()
        found = {}
        for name in names:
            column = table[name]
            values = column.chunk(0) if column.num_chunks else pa.array([], column.type)
            array = ak.from_arrow(values)
            if column.null_count or "?" in str(array.type):
                # Lists may hold nulls, or only be declared to.
                if ak.any(ak.is_none(array, axis=-1)) or column.null_count:
                    raise DataError(f"{self.path}: column {name} has missing values; fill them")
                array = ak.drop_none(array, axis=-1)
            found[name] = array
        return found
