"""Built kernels, kept between programs: whole, this user's own, and verified before use."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lgatr.utils.cache import is_own_file, write_whole

BUILD_PREFIX = "build-"
"""Of the directories in which kernels are built."""
_LEFT_OVER = 3600.0
_WAIT = 300.0
_STEP = 0.1


def _checksum_file(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def is_intact(library: Path) -> bool:
    """Whether this file was kept by this user, and is what was kept.

    A truncated library would end the program by a signal, at its loading or much later.
    """
    checksum = _checksum_file(library)
    if not (is_own_file(library) and is_own_file(checksum)):
        return False
    try:
        return hashlib.sha256(library.read_bytes()).hexdigest() == checksum.read_text().strip()
    except (OSError, ValueError):
        return False


def keep(built: Path, library: Path) -> None:
    """Put a library that was built in its place, with its checksum.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    content = built.read_bytes()
    write_whole(library, content)
    write_whole(_checksum_file(library), hashlib.sha256(content).hexdigest().encode())


@contextmanager
def only_builder(directory: Path) -> Iterator[None]:
    """Wait until no other program builds in this directory, and clear what killed ones left.

    Where the file system has no locks, or one is held for minutes, it goes on without: what is
    built is put in its place as a whole.
    """
    handle = _locked(directory)
    try:
        _clear_left_overs(directory)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _locked(directory: Path) -> int | None:
    try:
        import fcntl

        handle = os.open(directory, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    end = time.monotonic() + _WAIT
    while time.monotonic() < end:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_STEP)
        except OSError:
            break
        else:
            return handle  # the lock dies with the program
    os.close(handle)
    return None


def _clear_left_overs(directory: Path) -> None:
    for place in directory.glob(f"{BUILD_PREFIX}*"):
        try:
            if time.time() - place.stat().st_mtime > _LEFT_OVER:
                shutil.rmtree(place, ignore_errors=True)
        except OSError:
            pass
