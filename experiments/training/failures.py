"""Turn low-level failures (killed worker, NCCL) into one-line user errors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.errors import DataError, describe
from experiments.errors import UserError

_MEANINGS = (
    (
        r"DataLoader worker .* (killed|exited unexpectedly)",
        "a process that prepares batches was killed (out of memory?); lower data.num_workers or "
        "data.mix",
    ),
    (
        r"mixed torch\.Tensor and DTensor",
        "this optimizer needs whole parameters, which trainer=fsdp divides; take optimizer=adamw",
    ),
    (
        r"out of memory",
        "the memory of the device is full; free some, or start a new run with a lower "
        "data.batch_size",
    ),
    (r"file write failed", "there is no room left for a file of this run; make some"),  # HDF5
    (
        r"Connection (closed|reset)|gloo|NCCL|ProcessGroup|Broken pipe",
        "another process of this run ended; its own message says why",
    ),
)


@contextmanager
def explained_failures(command: str) -> Iterator[None]:
    """Turn errors caused by other processes or libraries into :class:`UserError`.

    Parameters
    ----------
    command
        Command that resumes the run, named in all messages.
    """
    then = f"; go on by: {command}"
    try:
        yield
    except DataError as error:
        # An error in a worker has its stack trace before the one line.
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise DataError(lines[-1].removeprefix("data.errors.DataError: ") + then) from error
    except OSError as error:  # a full disk, mostly
        raise UserError(describe(error) + then) from error
    except RuntimeError as error:
        for pattern, meaning in _MEANINGS:
            if re.search(pattern, str(error)):
                raise UserError(meaning + then) from error
        raise


@contextmanager
def explained_after_training(command: str) -> Iterator[None]:
    """Add to any error after training that the weights are kept, and how to resume.

    With ``HYDRA_FULL_ERROR=1`` the original error is raised.
    """
    try:
        yield
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        reason = describe(error) if isinstance(error, OSError) else str(error)
        text = " ".join((reason or type(error).__name__).split())
        if not isinstance(error, (UserError, ValueError, OSError)):
            text = f"{type(error).__name__}: {text}"
        raise UserError(
            f"{text}; training is done and its weights are kept, test and report go on by: "
            f"{command} (HYDRA_FULL_ERROR=1 shows where it failed)"
        ) from error


@contextmanager
def restoring(trainer: Any, path: Path | None) -> Iterator[None]:
    """Name the checkpoint in any error of Lightning while it restores what the checkpoint holds."""
    connector = trainer._checkpoint_connector
    names = ("_restore_modules_and_callbacks", "restore_training_state")
    for name in names:
        setattr(connector, name, _named(getattr(connector, name), path))
    try:
        yield
    finally:
        for name in names:
            delattr(connector, name)


def _named(restore: Callable[..., None], path: Path | None) -> Callable[..., None]:
    def restored(*arguments: Any, **keywords: Any) -> None:
        try:
            restore(*arguments, **keywords)
        except (UserError, DataError):
            raise
        except Exception as error:
            if any(re.search(pattern, str(error)) for pattern, _ in _MEANINGS):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"{path}: cannot be restored ({reason}); it is of another program or damaged"
            ) from error

    return restored
