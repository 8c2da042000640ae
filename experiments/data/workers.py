"""Keep the worker processes of data loaders from disturbing training."""

from __future__ import annotations

import signal
from typing import Any

from torch import Generator


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
