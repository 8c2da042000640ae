"""What it means when a process of a run dies, or cannot go on, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from data.errors import DataError
from experiments.errors import UserError

_MEANINGS = (
    (
        r"DataLoader worker .* (killed|exited unexpectedly)",
        "a process that prepares batches was killed (out of memory?); lower data.num_workers or "
        "data.mix, and go on by ckpt_path=last",
    ),
    (
        r"mixed torch\.Tensor and DTensor",
        "this optimizer needs whole parameters, which trainer=fsdp divides; take optimizer=adamw",
    ),
    (
        r"Connection (closed|reset)|gloo|NCCL|ProcessGroup|Broken pipe",
        "another process of this run ended; its own message says why; go on by ckpt_path=last",
    ),
)


@contextmanager
def explained_failures() -> Iterator[None]:
    """Turn errors whose cause lies elsewhere, as in a dead process, into :class:`UserError`."""
    try:
        yield
    except DataError as error:
        # From a worker it comes with that process's stack trace before its one line.
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise DataError(lines[-1].removeprefix("data.errors.DataError: ")) from error
    except RuntimeError as error:
        for pattern, meaning in _MEANINGS:
            if re.search(pattern, str(error)):
                raise UserError(meaning) from error
        raise
