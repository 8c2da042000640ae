"""Where the library keeps what it found out or built on this machine, safe from other users.

What lies there is run (kernels) or decides what runs, so a directory or a file that somebody else
could have written is not used.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import stat
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LARGEST_TABLE = 1 << 20


@cache
def warn_once(message: str) -> None:
    """Log a warning, the first time that a program has it."""
    _log.warning(message)


def cache_directory() -> Path:
    """A directory that this user alone can write; it is made where it is missing.

    ``$LGATR_CACHE``, or ``lgatr`` in the user's cache directory. Where that cannot be used, which
    is said once: a directory of this user among the temporary files, or one of this program.

    Raises
    ------
    OSError
        If there is no place for files at all.
    """
    wanted = _wanted()
    problem = "this user has no home directory" if wanted is None else _problem(wanted)
    if wanted is not None and problem is None:
        return wanted
    shared = Path(tempfile.gettempdir(), f"lgatr-{_user()}")
    found = shared if _problem(shared) is None else _private_directory()
    place = "no cache directory" if wanted is None else f"cache directory {wanted} is not used"
    warn_once(f"{place}: {problem}; {found} is (choose one by LGATR_CACHE)")
    return found


def _wanted() -> Path | None:
    own, base = os.environ.get("LGATR_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    if own:
        return Path(own).absolute()
    if os.path.isabs(base):
        return Path(base, "lgatr")
    home = os.path.expanduser("~")  # still "~" for a user without a home
    return Path(home, ".cache", "lgatr") if os.path.isabs(home) else None


def _user() -> int | None:
    """Number of the user, where the system has such."""
    return os.getuid() if hasattr(os, "getuid") else None


def _problem(directory: Path) -> str | None:
    """Why this directory cannot be used, or None."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A link must be the user's own too: in a place that all can write it may lead anywhere.
        link, found = directory.lstat(), directory.stat()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if _user() is not None:
        if {link.st_uid, found.st_uid} != {_user()}:
            return "it belongs to another user"
        if found.st_mode & _OTHERS_WRITE:
            return "other users may write it (chmod go-w makes it safe)"
    return None if os.access(directory, os.R_OK | os.W_OK | os.X_OK) else "it cannot be written"


@cache
def _private_directory() -> Path:
    """A directory of this program, removed at its end."""
    found = tempfile.mkdtemp(prefix="lgatr-")
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    return Path(found)


def is_own_file(file: Path) -> bool:
    """Whether it is an ordinary file of this user that nobody else may write."""
    try:
        found = file.stat()
    except OSError:
        return False
    own = _user() is None or (found.st_uid == _user() and not found.st_mode & _OTHERS_WRITE)
    return stat.S_ISREG(found.st_mode) and own


def write_whole(file: Path, content: bytes) -> None:
    """Write a file so that others, and a machine that loses power, see all of it or nothing.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_directory(file.parent)


def _sync_directory(directory: Path) -> None:
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:  # some systems open no directories
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def read_table(file: Path) -> dict[str, Any]:
    """What a JSON file of the cache holds; nothing where it is missing, foreign or damaged."""
    try:
        if not is_own_file(file) or file.stat().st_size > _LARGEST_TABLE:
            return {}
        table = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def add_to_table(file: Path, key: str, value: Any) -> None:
    """Write an entry of such a file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    table = {**read_table(file), key: value}
    write_whole(file, json.dumps(table, indent=1, sort_keys=True).encode())
