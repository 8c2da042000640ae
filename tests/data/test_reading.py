"""Whatever is wrong with a file, and whatever a library makes of it, is one line with its name."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import tokenize
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from data import probe
from data.errors import DataError
from data.formats import find_format, packed, read_jets
from data.reading import reading
from support.commands import module
from support.jetfiles import (
    random_jets,
    write_npz,
    write_packed_by_hand,
    write_pandas,
)
from support.reading import refused


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

    @pytest.mark.slow
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


def test_a_package_that_is_missing_is_no_damage(tmp_path):
    path = tmp_path / "jets.npz"
    path.write_text("x")
    with pytest.raises(DataError, match=r"reading it needs awkward; .*pip install") as caught:
        with reading(path):
            raise ModuleNotFoundError("No module named 'awkward'", name="awkward")
    assert "damaged" not in str(caught.value)
