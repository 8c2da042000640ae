"""Kernels kept between programs, and every way in which building them goes wrong.

By a source of one line, which is built in a moment.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lgatr.ops._runtime import build as native_build
from lgatr.ops._runtime import store as native_store
from lgatr.utils.cache import warn_once

SOURCE = 'extern "C" int answer() { return 42; }\n'
ROOT = Path(native_build.__file__).parents[3]
# The package itself would bring torch along, for seconds.
PROGRAM = """
import sys, types
from pathlib import Path
for name in ("lgatr", "lgatr.ops", "lgatr.ops._runtime", "lgatr.utils"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(Path(sys.argv[3], *name.split(".")))]
from lgatr.ops._runtime import build as native_build
native_build._SOURCES, native_build._HEADERS = (Path(sys.argv[1]),), (Path(sys.argv[2]),)
found = native_build.library("float")
print(found and found.answer())
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    if not native_build._compiler():
        pytest.skip("no C++ compiler")
    for name in ("cache", "temporary"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "one.cpp").write_text(SOURCE)
    (tmp_path / "one.h").write_text("")
    monkeypatch.setattr(native_build, "_SOURCES", (tmp_path / "one.cpp",))
    monkeypatch.setattr(native_build, "_HEADERS", (tmp_path / "one.h",))
    monkeypatch.setenv("LGATR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    warn_once.cache_clear()
    return tmp_path


def answer():
    """What the library of a new program answers, or None without one."""
    found = native_build.library.__wrapped__("float")
    return None if found is None else found.answer()


def start(place, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, place / "one.cpp", place / "one.h", ROOT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def kept(place):
    (library,) = (place / "cache").glob("*.so")
    return library


def builds(monkeypatch):
    """The calls of the builder from now on."""
    calls, real = [], native_build._built
    monkeypatch.setattr(native_build, "_built", lambda *a: calls.append(a) or real(*a))
    return calls


def lines(caplog):
    found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert all(len(line.splitlines()) == 1 for line in found)
    return found


def fake(place, text):
    compiler = place / "cxx"
    compiler.write_text(f"#!/bin/sh\n{text}\n")
    compiler.chmod(0o755)
    return str(compiler)


def test_kept_with_its_checksum(place, monkeypatch, caplog):
    assert answer() == 42
    calls = builds(monkeypatch)
    assert answer() == 42 and not calls and not lines(caplog)
    names = sorted(file.name for file in (place / "cache").iterdir())
    assert names == [kept(place).name, f"{kept(place).name}.sha256"]
    assert not any(file.stat().st_mode & 0o022 for file in (place / "cache").iterdir())


def replace(library, content):
    """In a file of its own: this program has loaded the old one."""
    mode = library.stat().st_mode
    library.unlink()
    library.write_bytes(content)
    library.chmod(mode)


def truncated(library):
    replace(library, library.read_bytes()[:-5000])


def changed(library):
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    replace(library, content)


def emptied(library):
    replace(library, b"")


def without_checksum(library):
    native_store._checksum_file(library).unlink()


def checksum_of_junk(library):
    native_store._checksum_file(library).write_bytes(b"\xff\xfe")


def open_to_others(library):
    library.chmod(0o777)


def checksum_open_to_others(library):
    native_store._checksum_file(library).chmod(0o666)


def a_dangling_link(library):
    library.unlink()
    library.symlink_to("nowhere")


@pytest.mark.parametrize(
    "spoil",
    [
        truncated, changed, emptied, without_checksum, checksum_of_junk, open_to_others,
        checksum_open_to_others, a_dangling_link,
    ],
)  # fmt: skip
def test_what_was_not_kept_like_this_is_built_again(place, monkeypatch, spoil):
    assert answer() == 42
    calls = builds(monkeypatch)
    spoil(kept(place))
    assert answer() == 42 and len(calls) == 1
    assert native_store.is_intact(kept(place)) and kept(place).stat().st_mode & 0o022 == 0
    assert answer() == 42 and len(calls) == 1


def test_a_directory_in_its_place(place, caplog):
    assert answer() == 42
    library = kept(place)
    library.unlink()
    library.mkdir()
    assert answer() == 42
    assert "for this program alone" in lines(caplog)[0]


def test_a_cache_that_others_may_write_is_not_used(place, caplog):
    (place / "cache").chmod(0o777)
    assert answer() == 42
    assert not list((place / "cache").iterdir())
    (line,) = lines(caplog)
    assert "chmod go-w" in line


def test_a_cache_that_cannot_be_written(place, monkeypatch, caplog):
    monkeypatch.setenv("LGATR_CACHE", str(place / "one.cpp" / "below"))
    assert answer() == 42
    (line,) = lines(caplog)
    assert "not a directory" in line and "LGATR_CACHE" in line


def test_programs_that_build_at_once(place):
    programs = [start(place) for _ in range(4)]
    assert [p.communicate()[0].strip() for p in programs] == ["42"] * 4
    assert len(list((place / "cache").iterdir())) == 2 and native_store.is_intact(kept(place))


def test_a_killed_build_leaves_nothing_that_disturbs(place, monkeypatch):
    hanging = fake(place, 'case "$*" in *--version*) echo 1;; *) exec sleep 5;; esac')
    program = start(place, CXX=hanging)
    while not list((place / "cache").glob("build-*")) and program.poll() is None:
        time.sleep(0.02)
    program.kill()
    program.communicate()
    (left,) = (place / "cache").glob("build-*")
    assert answer() == 42 and left.exists(), "it may be in use where there are no locks"
    kept(place).unlink()
    os.utime(left, (0, 0))
    assert answer() == 42 and not left.exists()


def test_a_full_disk(place, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native_build, "keep", full)
    assert answer() == 42
    (line,) = lines(caplog)
    assert "No space left" in line
    assert not list((place / "temporary").iterdir()) and not list((place / "cache").iterdir())


def test_a_compiler_without_room(place, monkeypatch, caplog):
    """Its own message, as the error is then not ours; elsewhere there may be room."""
    monkeypatch.setenv(
        "CXX",
        fake(
            place,
            f'case "$*" in *{place}/cache*) echo "x: No space left on device" >&2; exit 1;; esac\n'
            'exec c++ "$@"',
        ),
    )
    assert answer() == 42
    (line,) = lines(caplog)
    assert "No space left" in line


@pytest.mark.parametrize(
    ("cxx", "found", "said"),
    [
        ("nonexistent", 42, "no such program"),
        ('"g++', 42, "no closing quotation"),
        ("g++ -DODD='a b'", 42, ""),
        ("env g++", 42, ""),
        ("/", 42, "no such program"),
        ("false", None, "not built"),
        ("cat", None, "not built"),
    ],
)
def test_odd_compilers(place, monkeypatch, caplog, cxx, found, said):
    monkeypatch.setattr(native_build, "_VERSION_TIMEOUT", 1)
    monkeypatch.setenv("CXX", cxx)
    assert answer() == found
    assert answer() == found
    assert len(lines(caplog)) == bool(said) and all(said in line for line in lines(caplog))


@pytest.mark.parametrize(
    "text",
    [
        "sleep 100",
        "sleep 100 & wait",
        "printf '\\377\\376\\000junk'",
        "printf '\\377\\376' >&2; exit 3",
        "kill -9 $$",
        'case "$*" in *--version*) ;; *) echo junk > "${@: -1}" 2>/dev/null;; esac',
    ],
)
def test_compilers_that_hang_or_print_junk(place, monkeypatch, caplog, text):
    monkeypatch.setattr(native_build, "_VERSION_TIMEOUT", 0.5)
    monkeypatch.setenv("CXX", fake(place, text))
    begin = time.monotonic()
    assert answer() is None and time.monotonic() - begin < 30
    (line,) = lines(caplog)
    assert "slower torch operations run" in line


def test_flags_that_are_no_command_line(place, monkeypatch, caplog):
    monkeypatch.setenv(native_build.MORE_FLAGS, '-g "')
    assert answer() is None
    (line,) = lines(caplog)
    assert "No closing quotation" in line


def test_more_flags_are_another_library(place, monkeypatch):
    assert answer() == 42
    monkeypatch.setenv(native_build.MORE_FLAGS, "-Danswer=other")
    found = native_build.library.__wrapped__("float")
    assert isinstance(found, ctypes.CDLL) and found.other() == 42
    assert len(list((place / "cache").glob("*.so"))) == 2
