"""The Heidelberg export of the top-tagging data set: ``toptagging_full.npz``.

``kinematics_{train,val,test}`` are ``(J, 200, 4)`` zero-padded (E, px, py, pz) in GeV,
``labels_{train,val,test}`` are ``(J,)``. The archive is decompressed in pieces, and only real
constituents stay in memory.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from data import npz
from data.errors import DataError
from data.jets import Jets, as_labels, join, unpad

NAME = "top-tagging npz"


def recognises(path: Path) -> bool:
    """Whether ``path`` is a zip archive with arrays of kinematics."""
    return any(name.startswith("kinematics_") for name in npz.names(path))


def read(path: Path, split: str, limit: int | None = None) -> Jets:
    """One split; see :func:`data.formats.read_jets`."""
    with zipfile.ZipFile(path) as archive:
        labels = npz.NpzArray(path, archive, f"labels_{split}").read()
        momenta = npz.NpzArray(path, archive, f"kinematics_{split}")
        shape = momenta.shape
        if len(shape) != 3 or shape[2] != 4:
            raise DataError(
                f"{path}: {momenta.name} has shape {shape}, expected (jets, particles, 4)"
            )
        if labels.shape[:1] != shape[:1]:
            raise DataError(f"{path}: {len(labels)} labels for {shape[0]} jets")
        pieces = [unpad(piece.astype(np.float32)) for _, piece in momenta.pieces(limit)]
    source = f"{path}:{split}"
    return join(pieces, as_labels(labels[:limit], source), source)
