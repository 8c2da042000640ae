"""Output of command lines whose reader may be gone, or whose place may be full."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_output() -> Iterator[None]:
    """Run a program that prints.

    Characters that the encoding lacks are substituted. A closed pipe (``| head``) ends it without a
    word and with the status of SIGPIPE, 141; other errors of standard output are one line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:  # of a file, not of a stream
            raise
        # What is still buffered would fail once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            raise SystemExit(141) from None
        raise SystemExit(f"error: standard output: {error.strerror}") from None
