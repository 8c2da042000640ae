"""Ctrl-C, SIGTERM and SIGHUP end a program with one line and the usual exit status."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RETRY_SECONDS = 0.05
_AGAIN = "start again with the same command"
_IMPORTS = "<frozen importlib._bootstrap>"
_LONGEST_IMPORT = 20.0  # seconds


class _Postponed(NamedTuple):
    """A signal that came during an import: until when it waits, and when it comes again."""

    signum: int
    end: float
    next: float


_postponed: _Postponed | None = None

_pending: signal.Signals | None = None
_raised: signal.Signals | None = None
_deferring = 0
_owner = 0  # process that the handlers belong to; forked ones have none
_advice = ""


class Interrupted(SystemExit):
    """A signal asked the program to end; its exit status is 128 and the signal's number."""

    def __init__(self, signum: int) -> None:
        global _raised
        super().__init__(128 + signum)
        self.signal = _raised = signal.Signals(signum)


def _handle(signum: int, frame: FrameType | None) -> None:
    global _pending
    if os.getpid() != _owner:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        return
    if _postpone(signum, frame):
        return
    again = _pending is not None
    _pending = signal.Signals(signum)
    if not _deferring or again:
        raise Interrupted(signum)
    if sys.stderr.isatty():
        print(f"{_pending.name}: saving first; once more ends at once", file=sys.stderr)


def _postpone(signum: int, frame: FrameType | None) -> bool:
    """Whether the first signal comes again when a module has been imported, or a while later.

    A module that is half imported fails in any way.
    """
    global _postponed
    now = time.monotonic()
    due, _postponed = _postponed, None
    if not _is_importing(frame):
        return False
    if due is None:
        due = _Postponed(signum, now + _LONGEST_IMPORT, now)
    elif now < due.next or now > due.end:
        return False  # asked for once more, or whatever runs there does not end
    _postponed = due._replace(next=now + _RETRY_SECONDS)
    _send_later(signum)
    return True


def _is_importing(frame: FrameType | None) -> bool:
    """Whether some module is being imported below this frame."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTS:
            return True
        frame = frame.f_back
    return False


def _send_later(signum: int) -> None:
    threading.Timer(_RETRY_SECONDS, os.kill, (os.getpid(), signum)).start()


def install() -> None:
    """Handle the signals from now on, but for those that the parent process has us ignore."""
    global _owner
    if threading.current_thread() is not threading.main_thread():
        return
    _owner = os.getpid()
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _handle)


def check_current_folder() -> None:
    """End the program in one line if its current folder is gone, which libraries trip over."""
    try:
        os.getcwd()
    except OSError:
        os.write(2, b"error: the current folder was removed; cd to one that exists\n")
        os._exit(2)


def guard_imports() -> None:
    """End a command ``python -m …`` in one line also while its modules are imported.

    Does nothing where a package is imported by another program.
    """
    if sys.argv[:1] != ["-m"] or threading.current_thread() is not threading.main_thread():
        return
    check_current_folder()
    for signum in SIGNALS:
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, _end_at_once)


def ignore() -> None:
    """Ignore the signals, after all work, while Python takes itself down.

    Functions of libraries that run then would be interrupted in the middle, and once handlers are
    gone, a signal would end the process without a word and with another status.
    """
    if threading.current_thread() is threading.main_thread():
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)


def _end_at_once(signum: int, _: Any) -> None:
    os.write(2, f"stopped by {signal.Signals(signum).name}; {_AGAIN}\n".encode())
    os._exit(128 + signum)


def pending_signal() -> signal.Signals | None:
    """The signal that asked this program to end, if one came."""
    return _pending


def raise_pending(default: signal.Signals = signal.SIGTERM) -> None:
    """End the program: by its pending signal, or by that of another of its processes."""
    raise Interrupted(_pending or default)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Only note the first signal; whoever runs inside asks :func:`pending_signal` and saves."""
    global _deferring
    _deferring += 1
    try:
        yield
    finally:
        _deferring -= 1
    if _pending is not None and not _deferring:
        raise_pending()


@contextmanager
def failures_after_a_signal() -> Iterator[None]:
    """An error after a signal is what some library made of it: the program ends by the signal.

    Compression, drawing and the like fail in their own ways when they are left in the middle.
    """
    try:
        yield
    except Exception as error:
        if _raised is None:
            raise
        raise Interrupted(_raised) from error


def advise(text: str) -> None:
    """Set what the user is told to do after an interruption, such as a command."""
    global _advice
    _advice = text


def advice() -> str:
    """What :func:`advise` set last."""
    return _advice


@contextmanager
def one_line_interrupts(text: str = _AGAIN) -> Iterator[None]:
    """Run a program whose interruption is one line, without a stack trace.

    Parameters
    ----------
    text
        What the user is told to do, until :func:`advise` says better.
    """
    global _pending, _postponed, _raised
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    hook, sys.unraisablehook = sys.unraisablehook, _retry
    _pending = _postponed = _raised = None
    advise(text)
    install()
    try:
        try:
            with failures_after_a_signal():
                yield
        finally:
            if _postponed is not None:
                raise Interrupted(_postponed.signum)  # the import has failed, or was the last
    except (Interrupted, KeyboardInterrupt) as error:
        caught = error.signal if isinstance(error, Interrupted) else signal.SIGINT
        print(f"stopped by {caught.name}; {_advice}", file=sys.stderr)
        raise SystemExit(128 + caught) from None
    finally:
        _postponed = None
        sys.unraisablehook = hook
        if _owner == os.getpid():
            for signum, handler in before.items():
                signal.signal(signum, handler)


def _retry(unraisable: Any) -> None:
    """Python drops what is raised in destructors; the signal comes again after them."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)
        return
    _send_later(unraisable.exc_value.signal)
