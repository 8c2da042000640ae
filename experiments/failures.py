"""What it means when a process of a run dies, or cannot go on, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

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
    except SIGTERMException as error:
        # Its own exit status would be 0, that of success; one process speaks for all.
        if getattr(rank_zero_only, "rank", 0):
            raise SystemExit(2) from error
        raise UserError("asked to end (SIGTERM: a time limit?); go on by ckpt_path=last") from error
    except RuntimeError as error:
        for pattern, meaning in _MEANINGS:
            if re.search(pattern, str(error)):
                raise UserError(meaning) from error
        raise
