"""The error a user sees when an input file cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterable


class DataError(ValueError):
    """A data file is missing, damaged, or holds something that is not a jet sample.

    The message is one line: what was found, where, and what to do about it. It may quote the
    file, so what is not printable becomes a question mark.
    """

    def __init__(self, message: str) -> None:
        # Lines are kept: torch puts the stack trace of a worker before the message.
        super().__init__("".join(c if c.isprintable() or c == "\n" else "?" for c in message))


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for a message, the first of them if there are many."""
    found = sorted(names)
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    return (", ".join(found[:most]) or "nothing") + rest


def describe(error: OSError) -> str:
    """One line for an error of the operating system: the file, if known, and what happened."""
    # Libraries put essays into strerror; the number says it plainly.
    reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
    return f"{error.filename}: {reason}" if error.filename else reason


def install_hint(extra: str) -> str:
    """What to do when an optional package is missing.

    The extras are those of this project's folder: under its name, PyPI has the reference library.
    """
    return f"in the folder of this project: pip install -e '.[{extra}]'"
