"""Checksums of each block of an HDF5 file, behind its end.

HDF5 files may be followed by anything: other programs read ours as if nothing were there. Behind
the contents lie, for each :data:`BLOCK` bytes of them, a CRC-32 (uint32, little-endian) and a flag
(uint8) that is 1 where a block holds any of HDF5's own structures; then a footer: the length of
the contents, the size of a block, a CRC-32 of all that, and :data:`MAGIC`. Structures are verified
before HDF5 opens the file, numbers before they are used: the library meets no damaged byte.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from data.errors import DataError

BLOCK = 1 << 16
MAGIC = b"JETCRC32"
_FOOTER = struct.Struct("<QII8s")
_ENTRY = 5  # bytes per block: checksum and flag


def checksums_of(content: bytes, numbers: Iterable[tuple[int, int]]) -> bytes:
    """What to write behind ``content``: the checksums of its blocks, and the footer.

    Parameters
    ----------
    content
        An HDF5 file.
    numbers
        First byte and length of each piece that holds numbers of data sets, without overlaps.
    """
    count = -(-len(content) // BLOCK)
    covered = np.zeros(count, dtype=np.int64)
    for start, length in numbers:
        for block in range(start // BLOCK, -(-(start + length) // BLOCK)):
            first = block * BLOCK
            covered[block] += min(start + length, first + BLOCK) - max(start, first)
    ends = np.minimum(BLOCK * np.arange(1, count + 1), len(content))
    sums = [zlib.crc32(content[BLOCK * i : end]) for i, end in enumerate(ends.tolist())]
    structure = covered < ends - BLOCK * np.arange(count)
    table = np.asarray(sums, dtype="<u4").tobytes() + structure.astype(np.uint8).tobytes()
    own = zlib.crc32(table + struct.pack("<QI", len(content), BLOCK))
    return table + _FOOTER.pack(len(content), BLOCK, own, MAGIC)


class Checksums:
    """The checksums behind a file's contents, if there are any.

    Parameters
    ----------
    path
        The file; ``present`` tells whether it has checksums.

    Raises
    ------
    DataError
        If the checksums, or any of HDF5's structures, are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.present = path, False
        with open(path, "rb") as file:
            size = file.seek(0, io.SEEK_END)
            if size < _FOOTER.size:
                return
            file.seek(size - _FOOTER.size)
            length, block, own, magic = _FOOTER.unpack(file.read(_FOOTER.size))
            if magic != MAGIC:
                return
            count = -(-length // BLOCK)
            table = b""
            if block == BLOCK and length + _ENTRY * count + _FOOTER.size == size:
                file.seek(length)
                table = file.read(_ENTRY * count)
            if not table or zlib.crc32(table + struct.pack("<QI", length, block)) != own:
                raise self._damaged(size - _FOOTER.size, size)
            self.present, self.length = True, length
            self._sums: npt.NDArray[np.uint32] = np.frombuffer(table, "<u4", count)
            self._verified = np.zeros(count, dtype=bool)
            self._verify(file, np.flatnonzero(np.frombuffer(table, np.uint8, offset=4 * count)))

    def verify(self, start: int, length: int) -> None:
        """Compare the blocks that hold these bytes with their checksums.

        Raises
        ------
        DataError
            If one differs.
        """
        if self.present and length > 0:
            blocks = np.arange(start // BLOCK, -(-min(start + length, self.length) // BLOCK))
            blocks = blocks[~self._verified[blocks]]
            if len(blocks):
                with open(self.path, "rb") as file:
                    self._verify(file, blocks)

    def _verify(self, file: BinaryIO, blocks: npt.NDArray[np.int64]) -> None:
        for number in blocks.tolist():
            first = number * BLOCK
            file.seek(first)
            content = file.read(min(BLOCK, self.length - first))
            if zlib.crc32(content) != self._sums[number]:
                raise self._damaged(first, min(first + BLOCK, self.length))
            self._verified[number] = True

    def _damaged(self, start: int, stop: int) -> DataError:
        return DataError(
            f"{self.path}: damaged, or changed by another program: bytes {start} to {stop} do not "
            "match their checksum; convert, generate or fetch it again"
        )
