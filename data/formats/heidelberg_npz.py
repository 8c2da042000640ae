"""The Heidelberg export of the top-tagging data set: ``toptagging_full.npz``.

``kinematics_{train,val,test}`` are ``(J, 200, 4)`` zero-padded (E, px, py, pz) in GeV,
``labels_{train,val,test}`` are ``(J,)``. The archive is decompressed in chunks, and only real
constituents stay in memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.errors import DataError
from data.jets import Jets, join, unpad

NAME = "top-tagging npz"
CHUNK = 20_000


def recognises(path: Path) -> bool:
    """Whether ``path`` is a zip archive with arrays of kinematics."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.startswith("kinematics_") for name in archive.namelist())


def read(path: Path, split: str, limit: int | None = None) -> Jets:
    """One split; see :func:`data.formats.read_jets`."""
    try:
        return _read(path, split, limit)
    except (zipfile.BadZipFile, EOFError, OSError, KeyError) as error:
        raise DataError(f"{path}: damaged or incomplete ({error}); fetch it again") from error


def _read(path: Path, split: str, limit: int | None) -> Jets:
    with zipfile.ZipFile(path) as archive:
        with archive.open(f"labels_{split}.npy") as member:
            labels = np.lib.format.read_array(member, allow_pickle=False)[:limit]
        chunks = _chunks(path, archive, f"kinematics_{split}.npy", len(labels))
        pieces = [unpad(chunk) for chunk in chunks]
    return join(pieces, labels.astype(np.int64), f"{path}:{split}")


def _chunks(
    path: Path, archive: zipfile.ZipFile, name: str, count: int
) -> Iterator[npt.NDArray[np.float32]]:
    """The first ``count`` jets of an array, piece by piece, without reading it whole."""
    with archive.open(name) as member:
        major, _ = np.lib.format.read_magic(member)
        read_header = {
            1: np.lib.format.read_array_header_1_0,
            2: np.lib.format.read_array_header_2_0,
        }[major]
        shape, fortran, dtype = read_header(member)
        if len(shape) != 3 or shape[2] != 4 or fortran or dtype.hasobject:
            raise DataError(f"{path}: {name} has shape {shape}, expected (jets, particles, 4)")
        if shape[0] < count:
            raise DataError(f"{path}: {count} labels for {shape[0]} jets")
        row = shape[1] * shape[2] * dtype.itemsize
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            buffer = member.read(size * row)
            if len(buffer) != size * row:
                raise EOFError(f"{name} ends early")
            chunk = np.frombuffer(buffer, dtype).reshape(size, shape[1], 4)
            yield chunk.astype(np.float32)
