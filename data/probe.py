"""Try in another process what may end this one.

HDF5 is written in C and believes what it reads: damaged files without checksums have made it loop
without end and crash. What comes from others is therefore opened first by a child of this process,
whose end tells. Nothing is copied back; a file that the child survives is opened here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from data.errors import DataError
from data.reading import Snapshot

SECONDS = 30.0
"""That the child may take, and one more for each 10 MB of the file."""

_survived: set[Snapshot] = set()


def check_survives(path: Path, read: Callable[[Path], object]) -> None:
    """Run ``read`` on a file in a child process; errors that it raises are ignored there.

    Only on Linux, where processes can be copied safely; each state of a file is tried once.

    Raises
    ------
    DataError
        If the child crashes, or does not end.
    """
    state = Snapshot.of(path)
    if sys.platform != "linux" or state in _survived:
        return
    child = os.fork()
    if child == 0:
        _be_the_child(path, read)
    try:
        status = _wait(child, SECONDS + state.state[2] / 10e6)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if status is None or os.WIFSIGNALED(status):
        end = "does not end" if status is None else f"dies by signal {os.WTERMSIG(status)}"
        raise DataError(f"{path}: damaged: HDF5 {end} when it opens it; fetch the file again")
    _survived.add(state)


def _be_the_child(path: Path, read: Callable[[Path], object]) -> None:
    # Nothing of the parent's may run here: neither its handlers nor what it does at its end.
    try:
        faulthandler.disable()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        with contextlib.suppress(Exception):
            read(path)
    finally:
        os._exit(0)


def _wait(child: int, seconds: float) -> int | None:
    """The child's status, or None if it had to be killed."""
    deadline, pause = time.monotonic() + seconds, 0.0005
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
