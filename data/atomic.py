"""Write files so that a reader never meets half of one."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import DataError

_LEFTOVER = re.compile(r"\.(.*)\.(\d+)\.partial(\.[^.]*)?", re.DOTALL)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` and rename it to ``path`` once the block succeeds.

    If the block raises (disk full, interrupt, bad input), the temporary file is removed and
    whatever stood under ``path`` before is still there, untouched. The data reach the disk
    before the rename, so a crash leaves either the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept: libraries such as matplotlib choose the file format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def as_utf8(text: str) -> str:
    r"""Text that any file can hold: bytes of file names that are no UTF-8 become ``\udcXX``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all, as UTF-8 and with the line ends that it has."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(as_utf8(text).encode("utf-8"))


def check_new(*places: Path) -> None:
    """Refuse to write where anything is, a link to nothing included.

    Raises
    ------
    DataError
        At the first place that is taken.
    """
    for place in places:
        if os.path.lexists(place):
            raise DataError(f"{place}: exists; choose another name, or delete it")


def _sync_folder(folder: Path) -> None:
    """Let the new name reach the disk too, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, stems: Collection[str] | None = None) -> None:
    """Remove temporary files of :func:`atomic_path` whose process was killed.

    Parameters
    ----------
    folder
        Where to look; not below it.
    stems
        Names of the complete files, without their suffix; None is all.
    """
    for file in folder.glob(".*.partial*"):
        found = _LEFTOVER.fullmatch(file.name)
        if found is None or _is_running(int(found.group(2))):
            continue
        if stems is None or found.group(1) in stems:
            file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return process != os.getpid()
