"""What all programs share: options with errors in one line, and the frame around a program."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from data.errors import DataError, describe
from data.signals import check_current_folder, ignore, one_line_interrupts
from data.streams import forgiving_streams


@contextmanager
def program() -> Iterator[None]:
    """Frame of every program: interruptions are one line, and output that fails ends nothing."""
    check_current_folder()
    try:
        with forgiving_streams(), one_line_interrupts():
            yield
    finally:
        ignore()


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End with one line, and status 1, over what is wrong with files or the system.

    With ``HYDRA_FULL_ERROR=1`` the stack trace is shown instead.
    """
    try:
        yield
    except (DataError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        sys.exit(f"error: {describe(error) if isinstance(error, OSError) else error}")


class Parser(argparse.ArgumentParser):
    """Options of ``python -m MODULE``, described by the module's text.

    Parameters
    ----------
    program
        The module.
    text
        Its text, shown by ``--help``.
    """

    def __init__(self, program: str, text: str | None) -> None:
        super().__init__(
            prog=f"python -m {program}",
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """End with one line instead of argparse's usage block."""
        print(f"error: {' '.join(message.split())}; see --help", file=sys.stderr)
        raise SystemExit(2)
