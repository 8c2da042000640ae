"""The error a user sees when an input file cannot be used."""

from __future__ import annotations

import os


class DataError(ValueError):
    """A data file is missing, damaged, or holds something that is not a jet sample.

    The message is one line: what was found, where, and what to do about it.
    """


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
