"""Tell whether a sample is the one that it was: digests of jets and of files.

Up to :data:`MOST_BYTES` everything enters a digest. Of more, evenly spaced pieces do, among them
the first and the last: looking at a sample must cost little beside training on it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from data.jets import Jets
from data.reading import reading

MOST_BYTES = 1 << 30
"""Bytes of each column of jets that enter a digest, more than most have; read in a second."""

PIECE = 1 << 16
"""Bytes of a piece. Packed files end with a checksum of all their checksums, within one piece."""

MANY_FILES = 50
"""From how many files on work on them shows a bar."""

_PIECES_OF_A_FILE = 5
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


def digest_of_files(files: Sequence[Path], folder: Path) -> str:
    """A digest of files: names below ``folder``, sizes, and pieces of the content."""
    found = hashlib.sha256()
    for path in track(sorted(files), "Comparing files", disable=len(files) < MANY_FILES):
        with reading(path), open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            found.update(f"{os.path.relpath(path, folder)!r} {size}".encode())
            for start, stop in _places(size, _PIECES_OF_A_FILE):
                file.seek(start)
                found.update(file.read(stop - start))
    return found.hexdigest()[:_DIGITS]
