"""Whatever is wrong with archives, tables and ROOT files is one line with their names."""

from __future__ import annotations

import os
import signal
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from data.errors import DataError
from data.formats import Format, known_samples, read_jets
from support.jetfiles import (
    random_jets,
    random_particles,
    write_pandas,
    write_quark_gluon,
    write_root,
)
from support.reading import refused

JETCLASS = known_samples()["jetclass"]


def header(shape, dtype="<f4"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


def npz_of(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


class Evil:
    """Ends the tests if it is unpickled."""

    def __reduce__(self):
        return os.kill, (os.getpid(), signal.SIGKILL)


class TestArchives:
    LABELS = header((6,), "<i8") + bytes(48)

    @pytest.mark.parametrize(
        "momenta",
        [
            header((10**12, 200, 4)),
            header((6, 10**12, 4)),
            header((6, 200, 4)) + bytes(100),
            header((10**30, 200, 4)),
            header((-6, 200, 4)) + bytes(100),
            header((6, 200)) + bytes(4800),
            header((6, 200, 4), "|O") + bytes(100),
            header((6, 200, 4), "|S4") + bytes(19200),
            b"\x93NUMPY\x03\x00" + bytes(100),
            b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
            b"",
        ],
        ids=lambda v: repr(v[10:70]),
    )
    def test_headers(self, tmp_path, momenta):
        npz_of(tmp_path / "x.npz", kinematics_train=momenta, labels_train=self.LABELS)
        refused(tmp_path / "x.npz", "x.npz")
        npz_of(tmp_path / "y.npz", X=momenta, y=self.LABELS)
        refused(tmp_path / "y.npz", "y.npz")

    def test_a_bomb_takes_no_memory(self, tmp_path):
        """256 MB of zeros: jets without constituents, found in pieces of 32 MB."""
        path = tmp_path / "x.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("labels_train.npy", header((80_000,), "<i8") + bytes(640_000))
            with archive.open("kinematics_train.npy", "w", force_zip64=True) as member:
                member.write(header((80_000, 200, 4)))
                for _ in range(16):
                    member.write(bytes(16_000_000))
        tracemalloc.start()
        refused(path, "jet 0 has no constituent")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 128e6

    def test_pickles_are_not_run(self, tmp_path):
        evil = np.array([Evil()] * 6, dtype=object)
        for names in (("kinematics_train", "labels_train"), ("X", "y")):
            for both in (True, False):
                arrays = dict(zip(names, random_jets(6, 1), strict=True))
                arrays[names[1]] = evil
                if both:
                    arrays[names[0]] = evil
                np.savez(tmp_path / "x.npz", **arrays)
                refused(tmp_path / "x.npz", "expected numbers")

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"y": np.zeros(5)}, "expected"),
            ({"y": np.zeros((6, 1))}, "labels have shape"),
            ({"y": np.full(6, 0.5)}, "whole numbers"),
            ({"y": np.full(6, 3.0)}, "label 3"),
            ({"X": np.zeros((6, 9, 4))}, "no constituent"),
        ],
    )
    def test_quark_gluon(self, tmp_path, change, match):
        x, y = write_quark_gluon(tmp_path / "x.npz", 6, 1)
        np.savez(tmp_path / "x.npz", **{"X": x, "y": y, **change})
        refused(tmp_path / "x.npz", match)

    @pytest.mark.parametrize("column", [0, 1, 2, 3])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -5.0])
    def test_numbers_of_quark_gluon(self, tmp_path, column, value):
        if value == -5.0 and column in (1, 2):
            pytest.skip("a rapidity and an azimuth")
        x, y = write_quark_gluon(tmp_path / "x.npz", 20, 1)
        x[0, 0, column] = value
        np.savez(tmp_path / "x.npz", X=x, y=y)
        refused(tmp_path / "x.npz", "jet 0 has a particle|PDG numbers")


class TestTables:
    def test_pickled_attributes_are_not_run(self, tmp_path):
        import tables

        path = tmp_path / "train.h5"
        write_pandas(path, *random_jets(6, 1))
        with tables.open_file(str(path), "r+") as file:
            file.root.table._v_attrs.evil = Evil()
        assert len(read_jets(path, "train")) == 6

    @pytest.mark.parametrize("kind", ["group", "floats", "strings", "narrow"])
    def test_other_tables(self, tmp_path, kind):
        path = tmp_path / "train.h5"
        width = 8 if kind == "narrow" else 804
        number = "S3" if kind == "strings" else "f4"
        row = np.dtype([("values_block_0", number, (width,)), ("values_block_1", "i8", (2,))])
        with h5py.File(path, "w") as file:
            if kind == "group":
                file.create_group("table/table")
            elif kind == "floats":
                file["table/table"] = np.zeros(3)
            else:
                file["table/table"] = np.zeros(3, row)
        refused(path, "train.h5")


class TestRoot:
    def write(self, path, **replace):
        import awkward as ak
        import uproot

        particles = random_particles(6, 1)
        write_root(path, particles, "Hbb", list(JETCLASS.classes))
        with uproot.open(path) as file:
            branches = {name: file["tree"][name].array() for name in file["tree"].keys()}
        counts = {n for n in branches if n.startswith("npart")}
        branches = {n: b for n, b in branches.items() if n not in counts} | replace
        with uproot.recreate(path) as file:
            file.mktree(
                "tree",
                {n: b.type if b.ndim > 1 else ak.to_numpy(b).dtype for n, b in branches.items()},
            )
            file["tree"].extend(branches)

    def test_kinds(self, tmp_path):
        import awkward as ak

        path = tmp_path / "x.root"
        flat = ak.Array(np.ones(6, "f4"))
        jagged = ak.unflatten(np.ones(12, "f4"), [2] * 6)
        for replace, match in (
            ({"part_px": flat}, "px: 'part_px', not a list of numbers for each jet"),
            ({"part_px": jagged}, "other lengths|part_energy"),
            ({"label_Hbb": jagged}, "where a number for each jet is wanted"),
            ({"label_Hbb": flat * 0.5}, "where 0 or 1 is expected"),
            ({"label_QCD": flat}, "jet 0 is of QCD and Hbb"),
            ({"label_Hbb": flat * 0}, "jet 0 is of no class"),
        ):
            self.write(path, **replace)
            refused(path, match)

    def test_the_tree_is_none(self, tmp_path):
        import uproot

        path = tmp_path / "x.root"
        with uproot.recreate(path) as file:
            file["tree"] = np.histogram(np.ones(3))
        refused(path, "x.root")
        with pytest.raises(DataError, match="where a tree is expected|has no"):
            Format(JETCLASS).read_file(path, "train")
