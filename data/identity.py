"""Digests of jets and of files, which tell whether a sample is the one that it was.

Looking at a sample must cost little beside training on it: up to :data:`MOST_BYTES`, everything
enters. Of larger ones evenly spaced pieces do, among them the first and the last; what changes
between them goes unnoticed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from data.jets import Jets
from data.reading import reading

MOST_BYTES = 1 << 30
"""Of each column of jets in memory, or of all files together, that enter; read in a second."""

PIECE = 1 << 16
"""Bytes of a piece. Packed files end with a checksum of all their checksums, within one piece."""

MANY_FILES = 50
"""From how many files on work on them shows a bar."""

DAMAGED = "damaged"
"""Instead of the digest of a file that cannot be read and is left out."""

_FEWEST = 5
_DIGITS = 32


def _places(size: int, pieces: int) -> Iterator[tuple[int, int]]:
    """First and last byte of each piece: all there is, or ``pieces`` that are evenly spaced."""
    if size <= pieces * PIECE:
        yield 0, size
        return
    for number in range(pieces):
        start = (size - PIECE) * number // (pieces - 1)
        yield start, start + PIECE


def digest_of_jets(jets: Jets) -> str:
    """A digest of classes, labels, numbers of constituents, momenta and columns.

    It is of values, whichever file and format they came from.
    """
    found = hashlib.sha256()
    columns: dict[str, npt.NDArray] = {"offsets": jets.offsets, "labels": jets.labels}
    columns["constituents"] = jets.constituents
    columns |= {f"particles/{name}": jets.particles[name] for name in sorted(jets.particles)}
    columns |= {f"jets/{name}": jets.jets[name] for name in sorted(jets.jets)}
    jets.check_unchanged()  # a mapped file that was cut short ends the process when touched
    found.update(repr(jets.classes).encode())
    for name, column in columns.items():
        content = np.ascontiguousarray(column).reshape(-1).view(np.uint8)
        found.update(f"{name} {column.dtype.str} {column.shape}".encode())
        for start, stop in _places(content.size, MOST_BYTES // PIECE):
            found.update(content[start:stop].data)
    jets.check_unchanged()
    return found.hexdigest()[:_DIGITS]


def digests_of_files(
    files: Sequence[Path], folder: Path, noted: Mapping[str, str]
) -> dict[str, str]:
    """A digest of the size and the content of each file, by its path below ``folder``.

    Parameters
    ----------
    files, folder
        The files, and the folder that they are in.
    noted
        Digests of before, which are compared with: they begin with the number of pieces that
        entered, ``0:`` for all.
    """
    total = sum(os.stat(file).st_size for file in files)
    pieces = 0 if total <= MOST_BYTES else max(_FEWEST, MOST_BYTES // PIECE // len(files))
    found = {}
    for path in track(files, "Comparing files", disable=len(files) < MANY_FILES):
        name = os.path.relpath(path, folder)
        before = noted.get(name, "").partition(":")[0]
        found[name] = digest_of_file(path, int(before) if before.isdecimal() else pieces)
    return found


def digest_of_file(path: Path, pieces: int = 0) -> str:
    """A digest of the size and the content of a file, or of ``pieces`` of it."""
    found = hashlib.sha256()
    with reading(path), open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        found.update(str(size).encode())
        count = max(pieces, _FEWEST) if pieces else -(-size // PIECE)
        for start, stop in _places(size, count):
            for first in range(start, stop, PIECE):
                file.seek(first)
                found.update(file.read(min(PIECE, stop - first)))
    return f"{pieces}:{found.hexdigest()[:_DIGITS]}"
