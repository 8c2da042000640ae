"""Sizes that files declare are checked before memory is taken for them."""

from __future__ import annotations

from pathlib import Path

from data.errors import DataError

MOST_BYTES_AT_ONCE = 256 << 20
"""One piece of a file, decompressed, takes no more memory than this."""

MOST_EXPANSION = 1100
"""gzip cannot make data smaller by more than a factor of 1,032."""


def check_declared(path: Path, what: str, declared: int, stored: int) -> None:
    """Refuse data that cannot be as large as their header says.

    Parameters
    ----------
    what
        The array, for the message.
    declared
        Its size in bytes by the header.
    stored
        Bytes that the file has for it, compressed or not.

    Raises
    ------
    DataError
        If ``declared`` is negative, or larger than a piece may be and than compression allows.
    """
    if declared < 0 or declared > max(MOST_BYTES_AT_ONCE, MOST_EXPANSION * stored):
        raise DataError(
            f"{path}: {what} declares {declared:,} bytes, and the file has {stored:,} for it; "
            "the file is damaged, fetch or generate it again"
        )
