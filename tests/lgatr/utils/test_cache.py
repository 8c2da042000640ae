"""The cache's directory and files: the user's own, whole, and never the reason of a traceback."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lgatr.utils import cache

TEMPORARY = f"lgatr-{os.getuid()}"
ROOT = Path(cache.__file__).parents[2]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user with a home directory and a place for temporary files, and no wishes."""
    for name in ("LGATR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for cached in (cache.warn_once, cache._private_directory):
        cached.cache_clear()
    yield tmp_path / "home"
    cache._private_directory.cache_clear()


def modes(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_usual_places(home, tmp_path, monkeypatch, caplog):
    assert cache.cache_directory() == home / ".cache" / "lgatr"
    assert modes(home / ".cache" / "lgatr") == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_directory() == tmp_path / "xdg" / "lgatr"
    monkeypatch.setenv("LGATR_CACHE", str(tmp_path / "own"))
    assert cache.cache_directory() == tmp_path / "own"
    assert not caplog.records


def nobody_home(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without a passwd entry


def others_write(monkeypatch, mode=0o777):
    place = Path(os.environ["HOME"], ".cache", "lgatr")
    place.mkdir(parents=True)
    place.chmod(mode)


def somebody_else(monkeypatch):
    owner = Path(os.environ["HOME"], ".cache", "lgatr")
    real = os.stat_result

    def lstat(path, found=Path.lstat):
        status = found(path)
        return real((*status[:4], status.st_uid + 1, *status[5:])) if path == owner else status

    monkeypatch.setattr(Path, "lstat", lstat)


def read_only(monkeypatch):
    real = os.access
    inside = os.environ["HOME"]
    monkeypatch.setattr(
        os, "access", lambda path, mode: not str(path).startswith(inside) and real(path, mode)
    )


def a_file(monkeypatch):
    Path(os.environ["HOME"], ".cache").write_text("")


def a_loop(monkeypatch):
    place = Path(os.environ["HOME"], ".cache")
    place.mkdir()
    (place / "lgatr").symlink_to("lgatr")


def no_directory(monkeypatch):
    monkeypatch.setenv("LGATR_CACHE", "/proc/nothing/here")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (nobody_home, "no home directory"),
        (others_write, "chmod go-w"),
        (lambda patch: others_write(patch, 0o770), "chmod go-w"),
        (somebody_else, "another user"),
        (read_only, "cannot be written"),
        (a_file, "not a directory"),
        (a_loop, "is not used"),
        (no_directory, "no such file"),
    ],
)
def test_a_directory_that_cannot_be_used_is_said_once(home, monkeypatch, caplog, spoil, problem):
    spoil(monkeypatch)
    temporary = Path(tempfile.gettempdir(), TEMPORARY)
    assert cache.cache_directory() == temporary and modes(temporary) == 0o700
    assert cache.cache_directory() == temporary
    (line,) = (record.getMessage() for record in caplog.records)
    assert problem in line and str(temporary) in line and len(line.splitlines()) == 1


def test_a_trap_among_the_temporary_files_is_not_used(home, monkeypatch):
    others_write(monkeypatch)
    Path(tempfile.gettempdir(), TEMPORARY).mkdir(mode=0o777)
    Path(tempfile.gettempdir(), TEMPORARY).chmod(0o777)
    found = cache.cache_directory()
    assert found.name.startswith("lgatr-") and found.name != TEMPORARY and modes(found) == 0o700
    assert cache.cache_directory() == found


def test_the_users_own_link_is_followed(home, tmp_path):
    (tmp_path / "large").mkdir(mode=0o700)
    (home / ".cache").mkdir()
    (home / ".cache" / "lgatr").symlink_to(tmp_path / "large")
    cache.add_to_table(cache.cache_directory() / "table.json", "key", 1)
    assert (tmp_path / "large" / "table.json").exists()


def test_no_place_at_all(home, monkeypatch):
    nobody_home(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(home / "gone" / "for" / "ever"))
    monkeypatch.setattr(cache, "_problem", lambda directory: "it cannot be written")
    with pytest.raises(OSError):
        cache.cache_directory()
    from lgatr.attention import measured_choice as choice
    from lgatr.ops._runtime.tuning import Tuned

    monkeypatch.setattr(choice, "path", cache.cache_directory)
    choice._measured.cache_clear()
    assert choice._measured() == {}
    assert Tuned("test", ({"B": 1}, {"B": 2}), lambda run: 1.0).options(
        "gpu", (1,), lambda options: None
    ) == {"B": 1}


class TestTables:
    def test_entries_are_added(self, tmp_path):
        file = tmp_path / "table.json"
        cache.add_to_table(file, "a", {"x": 1})
        cache.add_to_table(file, "b", 2)
        assert cache.read_table(file) == {"a": {"x": 1}, "b": 2}
        assert list(tmp_path.iterdir()) == [file]

    @pytest.mark.parametrize(
        "content",
        [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"\0" * 9, b'"x"'],
    )
    def test_damaged_ones_are_empty(self, tmp_path, content):
        file = tmp_path / "table.json"
        file.write_bytes(content)
        file.chmod(0o600)
        assert cache.read_table(file) == {}

    def test_any_bytes(self, tmp_path):
        source, file = random.Random(0), tmp_path / "table.json"
        whole = json.dumps({"gpu: norm 16": {"BLOCK": 4}, "cpu": "native"}).encode()
        for _ in range(300):
            content = bytearray(whole[: source.randrange(len(whole) + 1)])
            for _ in range(source.randrange(4)):
                if content:
                    content[source.randrange(len(content))] = source.randrange(256)
            file.write_bytes(bytes(content))
            assert isinstance(cache.read_table(file), dict)

    def test_strange_files_are_not_read(self, tmp_path):
        (tmp_path / "directory").mkdir()
        os.mkfifo(tmp_path / "pipe", 0o600)  # whose reader would wait for ever
        for name in ("directory", "pipe", "missing"):
            assert cache.read_table(tmp_path / name) == {}
        written_by_others = tmp_path / "open.json"
        written_by_others.write_text('{"a": 1}')
        written_by_others.chmod(0o666)
        assert cache.read_table(written_by_others) == {}
        large = tmp_path / "large"
        large.write_bytes(b" " * (1 << 21))
        assert cache.read_table(large) == {}

    def test_a_full_disk_leaves_the_old_one(self, tmp_path, monkeypatch):
        file = tmp_path / "table.json"
        cache.add_to_table(file, "a", 1)

        def full(handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError):
            cache.add_to_table(file, "b", 2)
        assert cache.read_table(file) == {"a": 1} and list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_a_user_without_an_entry_and_without_home(tmp_path):
    """As in a container that is started with a number for a user."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "temporary").chmod(0o1777)
    for place in (tmp_path, *tmp_path.parents[:3]):
        place.chmod(place.stat().st_mode | 0o055)
    text = Path(cache.__file__).read_text()
    code = f"exec({text!r})\nos.setgid(54321); os.setuid(54321)\nprint(cache_directory())"
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path / "temporary")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd="/"
    )
    assert done.stdout.strip() == str(tmp_path / "temporary" / "lgatr-54321"), done.stderr
    assert len(done.stderr.splitlines()) == 1 and "no home directory" in done.stderr
