"""Building the kernels for CPUs: with the system's C++ compiler, once, in a few seconds."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from lgatr.utils.cache import cache_directory

_HERE = Path(__file__).parent
_SOURCES = tuple(_HERE / f"{name}.cpp" for name in ("native", "native_attention", "native_slim"))
_HEADER = _HERE / "native.h"
_FLAGS = (
    "-std=c++17 -O3 -march=native -fPIC -fno-math-errno -fno-trapping-math -fno-signed-zeros"
    " -fassociative-math"
).split()
_SECONDS = 120
_log = logging.getLogger(__name__)


SWITCH = "LGATR_NATIVE"
"""Environment variable; ``0`` turns these kernels off."""


def is_wanted() -> bool:
    """Whether :data:`SWITCH` leaves the kernels on, as it does unset."""
    return os.environ.get(SWITCH, "1") != "0"


@cache
def library(real: str) -> ctypes.CDLL | None:
    """The kernels for ``"float"`` or ``"double"``, or None where they cannot be built."""
    compiler = _compiler()
    if compiler is None:
        _log.info("no C++ compiler found; CPU kernels run on torch operations")
        return None
    # torch's own threads run the loops, where the compiler's OpenMP is torch's.
    for openmp in (["-fopenmp"], []):
        try:
            return ctypes.CDLL(str(_built(compiler, [*openmp, f"-DREAL={real}"])))
        except (OSError, subprocess.SubprocessError) as error:
            _log.info("CPU kernels %s: %s", " ".join(openmp), _reason(error))
    return None


def _compiler() -> list[str] | None:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        words = shlex.split(name)
        if words and shutil.which(words[0]):
            return words
    return None


def _built(compiler: list[str], flags: list[str]) -> Path:
    """The shared library for this source, compiler and processor."""
    directory = cache_directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    parts = [
        *(source.read_text() for source in (_HEADER, *_SOURCES)),
        *compiler,
        _version(compiler),
        *_FLAGS,
        *flags,
        _processor(),
    ]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    target = directory / f"native-{name}.so"
    if not target.exists():
        # In a place of its own, then renamed: processes that build at once do not meet.
        with tempfile.TemporaryDirectory(dir=directory) as place:
            compiled = [str(Path(place, f"{source.stem}.o")) for source in _SOURCES]
            linked = Path(place, target.name)
            for source, to in zip(_SOURCES, compiled, strict=True):
                _run([*compiler, *_FLAGS, *flags, "-c", str(source), "-o", to])
            # Without -fopenmp: its functions are to be those of the library that torch has loaded.
            undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
            _run([*compiler, "-shared", *undefined, *compiled, "-o", str(linked)])
            linked.replace(target)
    return target


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def _version(compiler: list[str]) -> str:
    return _run([*compiler, "--version"])


def _processor() -> str:
    """What ``-march=native`` depends on; a home directory may serve different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _reason(error: Exception) -> str:
    lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
