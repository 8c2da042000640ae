"""Keep the worker processes of data loaders from disturbing training."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Generator

_running: weakref.WeakSet[Any] = weakref.WeakSet()


def _restore_default(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def ignore_first_sigterm(worker_id: int) -> None:
    """Ignore the first SIGTERM; a ``worker_init_fn`` for data loaders.

    Batch systems send it to all processes at once, and without workers a run could not finish its
    step and save it. The second one ends the worker, so that a loader can always stop its workers.
    """
    signal.signal(signal.SIGTERM, _restore_default)


def private_generator() -> Generator:
    """Private generator, so that loader iterators do not advance torch's global RNG.

    A resumed run creates its iterators at other times than an uninterrupted one, and the number
    that each draws would change its dropout.
    """
    return Generator()


@contextmanager
def ended_workers(batches: Any) -> Iterator[Any]:
    """The iterator of a data loader, whose workers end with the block, or with the program.

    Left to the garbage collector, their queues may be gone first, and workers are waited for in
    vain for 20 seconds; left to the end of the program, which sends them one SIGTERM, for good.
    """
    stop = getattr(batches, "_shutdown_workers", None)
    if stop is None:  # no workers
        yield batches
        return
    if not _running:
        atexit.unregister(_end_all)
        atexit.register(_end_all)  # last, so that it comes first
    _running.add(batches)
    try:
        yield batches
    finally:
        if not batches._persistent_workers:  # which are used in the next pass
            stop()


def _end_all() -> None:
    for batches in list(_running):
        batches._shutdown_workers()
