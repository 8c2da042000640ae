"""Building the kernels for CPUs: with the system's C++ compiler, once, in a few seconds."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lgatr.ops._runtime.store import BUILD_PREFIX, is_intact, keep, only_builder
from lgatr.utils.cache import cache_directory, warn_once

_HEADERS = tuple(sorted(Path(__file__).parent.glob("*.h")))
# Wherever in the package they lie: beside the Python files that call them.
_SOURCES = tuple(sorted(Path(__file__).parents[2].rglob("*.cpp")))
_FLAGS = (
    "-std=c++17 -O3 -march=native -fPIC -fno-math-errno -fno-trapping-math -fno-signed-zeros"
    " -fassociative-math"
).split()
_COMPILE_TIMEOUT, _VERSION_TIMEOUT = 120, 20  # seconds
_NO_ROOM = ("no space left", "quota exceeded", "read-only file system")
_log = logging.getLogger(__name__)


SWITCH = "LGATR_NATIVE"
"""Environment variable; ``0`` turns these kernels off."""
MORE_FLAGS = "LGATR_NATIVE_FLAGS"
"""Environment variable with more flags for the compiler, such as sanitizers."""


def is_wanted() -> bool:
    """Whether :data:`SWITCH` leaves the kernels on, as it does unset."""
    return os.environ.get(SWITCH, "1") != "0"


def problem(real: str) -> str | None:
    """Why there are no kernels for ``"float"`` or ``"double"``, or None; builds them if needed."""
    if not is_wanted():
        return f"{SWITCH}=0"
    return None if library(real) is not None else _problems.get(real, "not built")


_problems: dict[str, str] = {}
"""Why they could not be built."""


@cache
def library(real: str) -> ctypes.CDLL | None:
    """The kernels for ``"float"`` or ``"double"``, or None where they cannot be built.

    That costs time and no result, so it is said in one line and never raised.
    """
    reason = "no C++ compiler found"
    try:
        compiler, more = _compiler(), shlex.split(os.environ.get(MORE_FLAGS, ""))
        # torch's own threads run the loops, where the compiler's OpenMP is torch's.
        for openmp in (["-fopenmp"], []) if compiler else ():
            try:
                return _loaded(compiler, [*more, *openmp, f"-DREAL={real}"])
            except subprocess.CalledProcessError as error:
                reason = _reason(error)
            except OSError as error:  # of the loader
                reason = str(error)
            _log.info("CPU kernels %s: %s", " ".join(openmp), reason)
    except (ValueError, subprocess.SubprocessError) as error:
        reason = _reason(error)
    _problems[real] = f"not built: {reason}"
    warn_once(f"CPU kernels are not built: {reason}; slower torch operations run ({SWITCH}=0)")
    return None


def _compiler() -> list[str]:
    """Command of the first compiler that is there; nothing if none is."""
    chosen = os.environ.get("CXX", "")
    for name in (chosen, "c++", "g++", "clang++"):
        try:
            words = shlex.split(name)
        except ValueError as error:
            words, fault = [], str(error).lower()
        else:
            fault = "no such program"
        if words and shutil.which(words[0]):
            return words
        if name and name is chosen:
            warn_once(f"CXX={name} is no C++ compiler ({fault}); others are tried")
    return []


def _loaded(compiler: list[str], flags: list[str]) -> ctypes.CDLL:
    """The library for this source, compiler and processor: kept by an earlier program, or built."""
    parts = [
        *(source.read_text() for source in (*_HEADERS, *_SOURCES)),
        *compiler,
        _version(compiler),
        *_FLAGS,
        *flags,
        _processor(),
    ]
    name = f"native-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:20]}.so"
    try:
        directory = cache_directory()
        if not is_intact(directory / name):
            with (
                only_builder(directory),
                tempfile.TemporaryDirectory(prefix=BUILD_PREFIX, dir=directory) as place,
            ):
                if not is_intact(directory / name):  # another program was faster
                    keep(_built(compiler, flags, Path(place)), directory / name)
    except (OSError, subprocess.CalledProcessError) as error:
        if isinstance(error, subprocess.CalledProcessError) and not _lacks_room(error):
            raise
        warn_once(f"CPU kernels are built for this program alone: {_reason(error)}")
        with tempfile.TemporaryDirectory(prefix="lgatr-") as place:
            # A library that is loaded needs its file no more.
            return ctypes.CDLL(str(_built(compiler, flags, Path(place))))
    return ctypes.CDLL(str(directory / name))


def _built(compiler: list[str], flags: list[str], place: Path) -> Path:
    """The shared library, built in an empty directory."""
    compiled = [str(place / f"{source.stem}.o") for source in _SOURCES]
    linked = place / "native.so"
    include = f"-I{_HEADERS[0].parent}"
    for source, to in zip(_SOURCES, compiled, strict=True):
        _run([*compiler, *_FLAGS, *flags, include, "-c", str(source), "-o", to], place)
    # Without -fopenmp: its functions are to be those of the library that torch has loaded.
    undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    sanitizers = [flag for flag in flags if flag.startswith("-fsanitize")]
    link = [*compiler, "-shared", *undefined, *sanitizers, *compiled, "-o", str(linked)]
    _run(link, place)
    if not linked.is_file():
        raise subprocess.CalledProcessError(0, link, stderr=f"{compiler[0]} wrote no library")
    return linked


def _run(
    command: Sequence[str], place: Path | None = None, seconds: float = _COMPILE_TIMEOUT
) -> str:
    """What a command prints; it and all that it started end after some seconds.

    Its temporary files go to ``place``.
    """
    environment = None if place is None else {**os.environ, "TMPDIR": str(place)}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate(timeout=seconds)
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, out, errors)
    return out


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and those that it started, which would keep its pipes open."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.kill()


def _lacks_room(error: subprocess.CalledProcessError) -> bool:
    return any(words in str(error.stderr).lower() for words in _NO_ROOM)


def _version(compiler: list[str]) -> str:
    return _run([*compiler, "--version"], seconds=_VERSION_TIMEOUT)


def _processor() -> str:
    """What ``-march=native`` depends on; a home directory may serve different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} did not answer in {error.timeout:.0f} seconds"
    if isinstance(error, subprocess.CalledProcessError):
        text = error.stderr.strip() or f"{error.cmd[0]} ended with status {error.returncode}"
    else:
        text = str(error)
    lines = text.splitlines()
    return lines[0][:200] if lines else type(error).__name__
