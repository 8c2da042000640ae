"""Rows of numbers: in ``.npy``, and in HDF5 files as others write them."""

from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest

from data.errors import DataError
from data.rows import Rows, advice, are_rows, tables_of

ROWS = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)


@pytest.fixture(params=["npy", "plain", "gzip", "blosc"])
def rows(request, tmp_path):
    """The same rows in each kind of file."""
    if request.param == "npy":
        np.save(tmp_path / "rows.npy", ROWS)
        return Rows(tmp_path / "rows.npy")
    how = {"plain": {}, "gzip": {"compression": "gzip"}, "blosc": hdf5plugin.Blosc()}[request.param]
    with h5py.File(tmp_path / "rows.hdf5", "w") as file:
        file.create_dataset("ttbar+0jet", data=ROWS, **how)
        file.create_dataset("ttbar+1jet", data=ROWS[:, :4], **how)
        file.create_dataset("weights", data=ROWS[:, 0])
        file.create_group("notes")
    return Rows(tmp_path / "rows.hdf5", "ttbar+0jet")


def test_what_is_wanted_is_read(rows):
    found, first = rows.read(8, "numbers")
    assert found.dtype == np.float64 and np.array_equal(found, ROWS) and first == 0
    found, first = rows.read(8, "numbers", lambda count: slice(count // 2, count // 2 + 3))
    assert np.array_equal(found, ROWS[25:28]) and first == 25


def test_rows_of_another_kind_are_refused(rows):
    with pytest.raises(DataError, match="where rows of 7 floating-point numbers are wanted: x$"):
        rows.read(7, "x")
    with pytest.raises(DataError, match=r"no such file"):
        Rows(rows.path.with_name("none.npy"), rows.table).read(8, "x")
    with pytest.raises(DataError, match=r"is a folder"):
        Rows(rows.path.parent, rows.table).read(8, "x")


def test_names_of_tables(tmp_path):
    path = tmp_path / "rows.hdf5"
    with h5py.File(path, "w") as file:
        file["zg"], file["zgg"], file["count"] = ROWS, ROWS, 3
        file["elsewhere"] = h5py.ExternalLink("other.h5", "zg")
    assert tables_of(path) == ["zg", "zgg"]
    assert advice(path) == "; for its rows of numbers give data.table, one of zg, zgg"
    np.save(tmp_path / "rows.npy", ROWS)
    assert tables_of(tmp_path / "rows.npy") == [] and advice(tmp_path / "rows.npy") == ""
    assert are_rows(path, "zg") and are_rows(tmp_path / "rows.npy", None)
    assert not are_rows(path, None)
    with pytest.raises(DataError, match=r"has no 'zggg' in /, only count, elsewhere, zg, zgg"):
        Rows(path, "zggg").read(8, "x")
    with pytest.raises(DataError, match="rows.npy: no HDF5 file.*leave data.table out"):
        Rows(tmp_path / "rows.npy", "zg").read(8, "x")
    with pytest.raises(DataError, match="link to another file"):
        Rows(path, "elsewhere").read(8, "x")


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_damaged_files(rows, size):
    content = rows.path.read_bytes()
    rows.path.write_bytes(content[:size])
    with pytest.raises(DataError, match=r"rows\.(npy|hdf5): "):
        rows.read(8, "x")
