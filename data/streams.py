"""Standard output and error that never fail: a lost reader or a full disk must not end the work."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class _Forgiving(io.FileIO):
    """A stream whose first error is kept; what is written after it is dropped."""

    failure: OSError | None = None

    def write(self, content: Any) -> int:
        """Write, or drop, all of ``content``."""
        if self.failure is None:
            try:
                return super().write(content)
            except OSError as error:
                self.failure = error
        return len(memoryview(content).cast("B"))


def _open_closed_descriptors() -> None:
    """Keep files that are opened later from taking the place of a closed standard stream."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _forgiving(name: str) -> _Forgiving | None:
    """Replace ``sys.stdout`` or ``sys.stderr``, unless something else stands there (a test's)."""
    stream = getattr(sys, name)
    if stream is None:  # closed by the shell: ``>&-``
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors="backslashreplace"))
        return None
    if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
        return None
    with suppress(OSError):
        stream.flush()
    raw = _Forgiving(stream.fileno(), "w", closefd=False)
    text = io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # type: ignore[arg-type]
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    setattr(sys, name, text)
    return raw


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Run a program whose output cannot fail: characters that the encoding lacks are substituted.

    A closed pipe (``| head``) is no error. Anything else that kept output from being written, such
    as a full disk, is one line and exit status 1 once the work is done.
    """
    _open_closed_descriptors()
    output, _ = _forgiving("stdout"), _forgiving("stderr")
    try:
        yield
    except SystemExit as end:
        if end.code:
            raise  # the program has said why
    sys.stdout.flush()
    failure = None if output is None else output.failure
    if failure is not None and failure.errno not in (errno.EPIPE, errno.ESHUTDOWN):
        reason = os.strerror(failure.errno or errno.EIO)
        print(f"error: standard output: {reason}; all else was done", file=sys.stderr)
        raise SystemExit(1)
