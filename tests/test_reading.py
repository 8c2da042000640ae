"""Whatever is wrong with a file, and whatever a library makes of it, is one line with its name."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import tokenize
import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from jetfiles import (
    random_jets,
    random_particles,
    write_npz,
    write_packed_by_hand,
    write_pandas,
    write_quark_gluon,
    write_root,
)
from support.commands import module

from data import probe
from data.errors import DataError
from data.formats import Format, find_format, jetclass, packed, read_jets
from data.jets import Jets
from data.reading import reading


def refused(path, match, split="train"):
    with pytest.raises(DataError, match=match) as caught:
        read_jets(path, split)
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and str(path) in text and text.isprintable()


class TestBoundary:
    ERRORS = (
        zlib.error("incorrect header"), struct.error("unpack"), KeyError("a"), MemoryError(),
        RecursionError("depth"), OverflowError("too large"), tokenize.TokenError("EOF", (1, 2)),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), zipfile.BadZipFile("bad"),
        EOFError(), AssertionError(), NotImplementedError("memberwise"), AttributeError("x"),
        RuntimeError("two\nlines \x1b[31m"), OSError("no errno"), OSError(22, "Invalid argument"),
        PermissionError(13, "Permission denied"), ZeroDivisionError("0"), DataError("x: bad"),
    )  # fmt: skip

    @pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
    def test_every_error_is_one_line(self, tmp_path, error):
        path = tmp_path / "x"
        path.write_text("...")
        with pytest.raises(DataError) as caught, reading(path):
            raise error
        text = str(caught.value)
        assert len(text.splitlines()) == 1 and text.isprintable()
        if not isinstance(error, DataError):
            assert str(path) in text and caught.value.__cause__ is error

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_requests_to_end_pass(self, tmp_path, error):
        (tmp_path / "x").write_text("...")
        with pytest.raises(error), reading(tmp_path / "x"):
            raise error

    def test_a_dead_worker_is_no_damage(self, tmp_path):
        (tmp_path / "x").write_text("...")
        with pytest.raises(RuntimeError, match="DataLoader worker"), reading(tmp_path / "x"):
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    @pytest.mark.parametrize("change", ["append", "replace", "remove"])
    @pytest.mark.parametrize("fails", [False, True])
    def test_a_file_that_changes(self, tmp_path, change, fails):
        path = tmp_path / "x"
        path.write_text("...")
        with pytest.raises(DataError, match=f"{path}: was changed or removed"), reading(path):
            if change == "append":
                path.write_text("....")
            elif change == "replace":
                (tmp_path / "y").write_text("...")
                os.replace(tmp_path / "y", path)
            else:
                path.unlink()
            if fails:
                raise zlib.error("half of it is new")

    def test_mapped_jets_notice_a_change(self, tmp_path):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(20, 1))
        jets = read_jets(path, "train")
        assert isinstance(jets.constituents, np.memmap)
        os.truncate(path, 100)  # to touch the numbers now would end the process by SIGBUS
        with pytest.raises(DataError, match="was changed or removed while"):
            jets.select(np.arange(3))

    def test_the_stack_trace_can_be_seen(self, tmp_path):
        (tmp_path / "source").mkdir()
        source = str(tmp_path / "source")
        for extra, expected in (({}, False), ({"HYDRA_FULL_ERROR": "1"}, True)):
            done = module("data.convert", source, "out", env={**os.environ, **extra}, cwd=tmp_path)
            assert ("Traceback" in done.stderr) == expected


class TestPaths:
    def test_no_file(self, tmp_path):
        refused(tmp_path / "none", "no such file")
        refused(tmp_path / ("x" * 300), "File name too long")
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (tmp_path / "b").symlink_to(tmp_path / "a")
        refused(tmp_path / "a", "symbolic links")
        (tmp_path / "file").write_text("...")
        refused(tmp_path / "file" / "x", "Not a directory")
        with pytest.raises(DataError, match="null byte"):
            read_jets(f"{tmp_path}/\0", "train")

    def test_neither_file_nor_folder(self, tmp_path, monkeypatch):
        os.mkfifo(tmp_path / "pipe")
        refused(tmp_path / "pipe", "is a named pipe")
        with socket.socket(socket.AF_UNIX) as bound:
            monkeypatch.chdir(tmp_path)  # names of sockets are short
            bound.bind("socket")
            refused(tmp_path / "socket", "is a socket")
        with pytest.raises(DataError, match="is a device"):
            read_jets("/dev/zero", "train")

    def test_a_pipe_among_files_does_not_hang(self, tmp_path):
        (tmp_path / "train").mkdir()
        os.mkfifo(tmp_path / "train" / "x.h5")
        with pytest.raises(DataError, match=r"x\.h5: is a named pipe"):
            read_jets(tmp_path, "train")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, tmp_path):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(5, 1))
        path.chmod(0)
        refused(path, "Permission denied")

    def test_the_first_file_of_a_folder_is_damaged(self, tmp_path):
        for name in ("a.h5", "b.h5"):
            (tmp_path / "train").mkdir(exist_ok=True)
            write_packed_by_hand(tmp_path / "train" / name, *random_jets(5, 1))
        (tmp_path / "train" / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
        assert find_format(tmp_path).module is packed
        with pytest.raises(DataError, match=r"train/a\.h5: damaged"):
            read_jets(tmp_path, "train")


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
class TestProbe:
    """A file is opened by another process first, which may crash, loop or fail."""

    @pytest.fixture
    def path(self, tmp_path, monkeypatch):
        (tmp_path / "x").write_text("...")
        monkeypatch.setattr(probe, "SECONDS", 2.0)
        return tmp_path / "x"

    def test_crash(self, path):
        with pytest.raises(DataError, match=f"{path}: damaged: HDF5 dies by signal 11"):
            probe.check_survives(path, lambda _: os.kill(os.getpid(), signal.SIGSEGV))

    def test_loop(self, path):
        def loop(_):
            while True:
                pass

        with pytest.raises(DataError, match=f"{path}: damaged: HDF5 does not end"):
            probe.check_survives(path, loop)

    def test_errors_are_left_to_this_process(self, path, capfd):
        probe.check_survives(path, lambda _: 1 / 0)
        assert capfd.readouterr() == ("", "")

    def test_each_state_is_tried_once(self, path):
        trace = path.with_name("trace")
        for content in ("one", "one", "three"):
            if path.read_text() != content:
                path.write_text(content)
            probe.check_survives(path, lambda _: trace.open("a").write("x"))
        assert trace.read_text() == "xx"


def test_a_stray_file_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    with h5py.File(tmp_path / "train" / "a.h5", "w") as file:
        file["x"] = np.arange(3)
    write_packed_by_hand(tmp_path / "train" / "b.h5", *random_jets(5, 1))
    with pytest.raises(DataError, match=r"a\.h5: has no 'train' in /, only x"):
        read_jets(tmp_path, "train")


def by_hand(tmp_path, match, attributes=(), **replace):
    path = tmp_path / "bad.h5"
    momenta, labels = random_jets(6, 1)
    write_packed_by_hand(path, momenta, labels, **replace)
    with h5py.File(path, "r+") as file:
        file.attrs.update(dict(attributes))
    refused(path, match)


class TestPacked:
    @pytest.mark.parametrize(
        ("labels", "match"),
        [
            (np.array([0.0, 0.5, 1, 1, 0, 0]), "jet 1 has label 0.5"),
            (np.array([0, np.nan, 1, 1, 0, 0]), "jet 1 has label nan"),
            (np.zeros((6, 2)), r"labels have shape \(6, 2\)"),
            (np.int64(1), r"labels have shape \(\)"),
            (np.array([b"top"] * 6), "expected numbers"),
            (np.array([0, 1, -1, 1, 0, 1]), "jet 2 has label -1"),
            (np.array([0, 1]), "7 offsets for 2 labels"),
            (np.zeros(0, dtype=int), "7 offsets for 0 labels"),
            (h5py.Empty("i4"), "has no shape"),
        ],
        ids=str,
    )
    def test_labels(self, tmp_path, labels, match):
        by_hand(tmp_path, match, labels=labels)

    def test_whole_numbers_of_any_type_are_labels(self, tmp_path):
        path = tmp_path / "x.h5"
        momenta, labels = random_jets(6, 1)
        for dtype in ("f4", ">i2", "?", "u8"):
            write_packed_by_hand(path, momenta, labels, labels=labels.astype(dtype))
            assert read_jets(path, "train").labels.tolist() == labels.tolist()

    @pytest.mark.parametrize(
        ("replace", "match"),
        [
            ({"offsets": np.arange(7)[::-1]}, "offsets must"),
            ({"offsets": np.full(7, -3)}, "offsets must"),
            ({"offsets": np.linspace(0, 9, 7)}, "offsets must be whole"),
            ({"offsets": np.zeros((7, 1), int)}, "expected 1 axes"),
            ({"offsets": np.array([0, 1, 2])}, "3 offsets for 6 labels"),
            ({"constituents": np.ones(99, "f4")}, "expected 2 axes"),
            ({"constituents": np.ones((99, 3), "f4")}, r"expected \(N, 4\)"),
            ({"constituents": np.array([[b"a"] * 4] * 99)}, "expected numbers"),
            ({"constituents": np.ones((99, 4), "c8")}, "expected numbers"),
        ],
        ids=lambda v: next(iter(v)) if isinstance(v, dict) else None,
    )
    def test_arrays(self, tmp_path, replace, match):
        by_hand(tmp_path, match, **replace)

    @pytest.mark.parametrize(
        ("classes", "match"),
        [
            ('["top", "top"]', "classes are top, top"),
            ('["top"]', "two or more"),
            ("[]", "two or more"),
            ('{"top": 1}', "must be text with a JSON list"),
            ("[1, 2]", "must be text with a JSON list"),
            ("[", "must be text with a JSON list"),
            (7, "must be text with a JSON list"),
            ("[" * 100_000, "must be text with a JSON list"),
            (json.dumps(["a\x1b[31m", "a\x1b[31m"]), "a.*31m, a.*31m"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_classes(self, tmp_path, classes, match):
        by_hand(tmp_path, match, {"classes": classes})

    def test_other_byte_order_and_precision(self, tmp_path):
        path = tmp_path / "x.h5"
        momenta, labels = random_jets(6, 1)
        real = momenta[momenta[..., 0] > 0]
        for dtype in (">f4", "<f8", ">f8"):
            write_packed_by_hand(path, momenta, labels, constituents=real.astype(dtype))
            assert np.array_equal(read_jets(path, "train").constituents, real)

    @pytest.mark.parametrize("name", ["constituents", "offsets", "labels"])
    @pytest.mark.parametrize("kind", ["group", "missing", "external", "virtual", "link", "type"])
    def test_other_things_than_data_sets(self, tmp_path, name, kind):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(6, 1))
        with h5py.File(path, "r+") as file:
            shape, dtype = file["train"][name].shape, file["train"][name].dtype
            del file["train"][name]
            place = f"train/{name}"
            if kind == "group":
                file.create_group(place)
            elif kind == "external":
                file.create_dataset(place, shape, dtype, external=[("/etc/passwd", 0, 9999)])
            elif kind == "virtual":
                file.create_virtual_dataset(place, h5py.VirtualLayout(shape, dtype))
            elif kind == "link":
                file[place] = h5py.ExternalLink("/etc/hostname", "x")
            elif kind == "type":
                file[place] = np.dtype("f4")
        refused(path, name)

    @pytest.mark.parametrize("where", ["train", "train/particles", "train/jets"])
    def test_data_sets_where_groups_are_expected(self, tmp_path, where):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(6, 1))
        with h5py.File(path, "r+") as file:
            if where in file:
                del file[where]
            file[where] = np.arange(6)
        refused(path, "is not a group")

    def test_a_column_of_another_length(self, tmp_path):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(6, 1))
        with h5py.File(path, "r+") as file:
            file["train/particles/charge"] = np.zeros(3, "f4")
        refused(path, r"particles/charge has shape \(3,\)")

    def test_sizes_that_cannot_be_true(self, tmp_path):
        path = tmp_path / "x.h5"
        write_packed_by_hand(path, *random_jets(6, 1))
        for options in (
            {"shape": (10**12,)},
            {"shape": (10**12,), "chunks": (1000,)},
            {"shape": (10**6,), "chunks": (1000,), "compression": "gzip"},
            {"shape": (10**8,), "chunks": (10**8,), "compression": "gzip"},
        ):
            with h5py.File(path, "r+") as file:
                del file["train/labels"]
                file.create_dataset("train/labels", dtype="i8", **options)
            refused(path, "labels (declares|has|is in chunks)")

    @pytest.mark.parametrize("compress", [False, True])
    def test_each_byte_of_the_numbers_has_a_checksum(self, tmp_path, compress):
        path = tmp_path / "x.h5"
        momenta, labels = random_jets(200, 1)
        real = momenta[..., 0] > 0
        offsets = np.concatenate([[0], real.sum(1).cumsum()])
        packed.write(
            path, {"train": Jets(momenta[real], offsets, labels, "x")}, {}, compress=compress
        )
        content = path.read_bytes()
        for place in range(0, len(content), 487):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            refused(path, "checksum|known format|damaged")

    def test_parts_are_verified_too(self, tmp_path):
        path = tmp_path / "x.h5"
        momenta = np.zeros((100_000, 4), "f4")
        momenta[:, 0] = 1
        jets = Jets(momenta, np.arange(100_001), np.arange(100_000) % 2, "x")
        packed.write(path, {"train": jets}, {}, compress=False)
        with h5py.File(path) as file:
            start = file["train/constituents"].id.get_offset()
        with open(path, "r+b") as file:
            file.seek(start + 16 * 50_000)
            file.write(struct.pack("<f", 2.0))
        form = Format(packed)
        assert len(form.read_file(path, "train", 0, 1000)) == 1000
        assert len(form.read_file(path, "train", 90_000, 91_000)) == 1000
        with pytest.raises(DataError, match="do not match their checksum"):
            form.read_file(path, "train", 49_000, 51_000)


class TestMomenta:
    @pytest.mark.parametrize(
        ("momentum", "match"),
        [
            ([1, 10, 0, 0], r"jet 0 has a constituent with \|p\| > 1.01 E"),
            ([-1, 0, 0, 0], "energy <= 0"),
            ([np.nan, 0, 0, 0], "NaN"),
            ([1e30, 1e30, 1e30, 1e30], r"\|p\|"),
        ],
    )
    def test_what_is_no_momentum(self, tmp_path, momentum, match):
        momenta, labels = random_jets(6, 1)
        momenta[0, 0] = momentum
        write_pandas(tmp_path / "train.h5", momenta, labels)
        refused(tmp_path / "train.h5", match)
        write_npz(tmp_path / "x.npz", {"train": (momenta, labels)})
        with pytest.raises(DataError, match=match):
            read_jets(tmp_path / "x.npz", "train")

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
    def test_rounding_is_allowed(self, tmp_path, dtype):
        """Massless particles in half precision have momenta up to 1.001 of their energies."""
        momenta, labels = random_jets(500, 1)
        momenta[..., 0] = np.linalg.norm(momenta[..., 1:], axis=2)
        momenta = momenta.astype(dtype).astype("f4")
        write_npz(tmp_path / "x.npz", {"train": (momenta, labels)})
        assert len(read_jets(tmp_path / "x.npz", "train")) == 500


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
        write_root(path, particles, "Hbb", list(jetclass.CLASSES))
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
            ({"part_px": flat}, "expected a list of numbers"),
            ({"part_px": jagged}, "other lengths|part_energy"),
            ({"label_Hbb": jagged}, "expected one number per jet"),
            ({"label_Hbb": flat * 0.5}, "expected one 1"),
            ({"label_QCD": flat}, "2 classes instead of one"),
            ({"label_Hbb": flat * 0}, "0 classes instead of one"),
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
            Format(jetclass).read_file(path, "train")
