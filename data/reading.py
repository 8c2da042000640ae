"""The one boundary around every reader: whatever a library raises becomes one line.

Libraries raise what they like over a damaged file: ``zlib.error``, ``struct.error``, ``KeyError``,
``RecursionError``, ``MemoryError`` of a size that a damaged header declares. None of it tells a
user which file is at fault. ``HYDRA_FULL_ERROR=1`` shows the stack trace behind the line.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import DataError, install_hint

_LONGEST_REASON = 200
_ADVICE = "; give the path of your jets (run.py: data.path=PATH)"
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
)


@dataclass(frozen=True)
class Snapshot:
    """What a file looked like when its reading began.

    Parameters
    ----------
    path
        The file.
    state
        Device, inode, size in bytes, and time of the last change in ns.
    """

    path: Path
    state: tuple[int, int, int, int]

    @classmethod
    def of(cls, path: Path) -> Snapshot:
        """The file as it is now."""
        return cls(path, cls._state(os.stat(path)))

    @staticmethod
    def _state(status: os.stat_result) -> tuple[int, int, int, int]:
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def changed(self) -> bool:
        """Whether the file is another one now, or is gone."""
        try:
            return self._state(os.stat(self.path)) != self.state
        except OSError:
            return True

    def check(self) -> None:
        """Raise :class:`DataError` if the file has changed."""
        if self.changed():
            raise DataError(
                f"{self.path}: was changed or removed while it was being read; "
                "put the file back as it was, or start again with the new one"
            )


def snapshot(path: Path) -> Snapshot | None:
    """The state of a regular file, or None for a folder.

    Raises
    ------
    DataError
        If there is nothing at ``path``, or nothing that can be read as a file or folder.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder{_ADVICE}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {_reason(error)}{_ADVICE}") from error
    if stat.S_ISDIR(status.st_mode):
        return None
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise DataError(f"{path}: is {name}, not a file of jets")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty; fetch or generate it again")
    return Snapshot(path, Snapshot._state(status))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    text = " ".join(str(error).split())
    if len(text) > _LONGEST_REASON:
        text = text[:_LONGEST_REASON] + " …"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read ``path`` inside: all errors and warnings of libraries become one :class:`DataError`.

    Requests to end (``KeyboardInterrupt``, ``SystemExit``) pass through.

    Raises
    ------
    DataError
        If reading fails, or the file changes meanwhile.
    """
    before = snapshot(path)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        # torch raises this in whatever code is running when a worker dies.
        if "DataLoader worker" in str(error):
            raise
        if before is not None:
            before.check()
        if isinstance(error, DataError):
            raise
        if isinstance(error, ImportError):
            hint = install_hint("root")
            raise DataError(f"{path}: reading it needs {error.name}; {hint}") from error
        # Invalid arguments are those that a damaged file made the library give.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise DataError(f"{path}: {_reason(error)}") from error
        raise DataError(
            f"{path}: damaged or cut short ({_reason(error)}); fetch or generate it again"
        ) from error
    if before is not None:
        before.check()
