"""What keeps processes that prepare batches from disturbing the training they prepare them for."""

from __future__ import annotations

import signal
from typing import Any

from torch import Generator


def _from_now_on(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def leave_the_end_to_the_run(worker_id: int) -> None:
    """Let the first SIGTERM pass, as ``worker_init_fn`` of a loader.

    Batch systems send it to all processes at once; a run that lost its workers could not finish
    its step and save it. The second one counts, so that a loader can always end its workers.
    """
    signal.signal(signal.SIGTERM, _from_now_on)


def own_generator() -> Generator:
    """For the number that each new iterator of a loader draws, and nobody here uses.

    Drawn from torch's global generator, as by default, it would change the dropout of a resumed
    run, which makes its iterators at other times than one that never stopped.
    """
    return Generator()
