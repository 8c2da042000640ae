"""Quark and gluon jets of EnergyFlow (Zenodo 3164691): ``QG_jets*.npz``.

``X`` is ``(J, particles, 4)`` zero-padded: pT in GeV, rapidity, azimuth, PDG number; ``y`` is 1 for
quark and 0 for gluon jets. Masses follow from the PDG numbers. A folder holds any number of such
files; taken together in the order of their numbers, the first 80 % of the jets are for training,
10 % each for validation and test.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data import npz
from data.errors import DataError
from data.jets import FloatArray, IntArray, Jets, as_labels, unpad
from data.reading import reading
from data.shards import visible

NAME = "quark–gluon npz (EnergyFlow)"
CLASSES = ("gluon", "quark")
SHARES = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}
MASSES = {
    11: 0.000511, 13: 0.10566, 22: 0.0, 130: 0.49761, 211: 0.13957, 310: 0.49761, 321: 0.49368,
    2112: 0.93957, 2212: 0.93827,
}  # fmt: skip
"""Of the particles that occur, in GeV, by the size of their PDG number."""
_CHARGED = (211, 321, 2212)
_NEUTRAL = (130, 310, 2112)


def recognises(file: Path) -> bool:
    """Whether ``file`` is such an archive."""
    return npz.names(file) >= {"X", "y"}


def _may_be_ours(file: Path) -> bool:
    """Whether a file of the folder is of the sample; a damaged one is, and is named later."""
    try:
        with reading(file):
            return recognises(file)
    except DataError:
        return True


def files(path: Path, split: str) -> list[Path]:
    """All files: each split is a part of each file."""
    if not path.is_dir():
        return [path]

    def number(file: Path) -> tuple[int, str]:
        found = re.search(r"_(\d+)$", file.stem)
        return int(found.group(1)) if found else 0, file.name

    found = sorted(visible(path.glob("*.npz")), key=number)
    return [file for file in found if _may_be_ours(file)]


def _bounds(total: int, split: str) -> tuple[int, int]:
    low, high = SHARES[split]
    return round(low * total), round(high * total)


def count(file: Path, split: str) -> int:
    """Jets of a split in a file."""
    with zipfile.ZipFile(file) as archive:
        labels = as_labels(npz.NpzArray(file, archive, "y").read(), str(file))
    low, high = _bounds(len(labels), split)
    return high - low


def read_file(file: Path, split: str, start: int = 0, stop: int | None = None) -> Jets:
    """Some jets of a file's part of a split."""
    with zipfile.ZipFile(file) as archive:
        momenta = npz.NpzArray(file, archive, "X")
        labels = as_labels(npz.NpzArray(file, archive, "y").read(), str(file))
        if len(momenta.shape) != 3 or momenta.shape[2] != 4 or momenta.shape[0] != len(labels):
            raise DataError(
                f"{file}: X has shape {momenta.shape} and y {labels.shape}, expected "
                "(jets, particles, 4) and (jets,)"
            )
        low, high = _bounds(len(labels), split)
        high = high if stop is None else min(high, low + stop)
        low += start
        # Read to the end whatever is wanted of it: only then is the archive's checksum compared.
        parts = [
            piece[max(low - first, 0) : max(high - first, 0)].astype(np.float64)
            for first, piece in momenta.pieces(None)
        ]
    wanted = np.concatenate([np.zeros((0, *momenta.shape[1:])), *parts])
    return _jets(wanted, labels[low:high], str(file))


def _jets(momenta: npt.NDArray[np.float64], labels: IntArray, source: str) -> Jets:
    particles, lengths = unpad(momenta)
    pt, rapidity, phi, pdg = particles.T
    if not np.isfinite(particles).all() or not (pt > 0).all():
        row = int(np.argmin(np.isfinite(particles).all(axis=1) & (pt > 0)))
        jet = int(np.searchsorted(np.cumsum(lengths), row, side="right"))
        raise DataError(
            f"{source}: jet {jet} has a particle {particles[row].tolist()}; pT, rapidity, azimuth "
            "and PDG number must be finite, and pT positive"
        )
    numbers = np.abs(np.rint(pdg)).astype(np.int64)
    mass = _masses(numbers, source)
    transverse = np.hypot(pt, mass)
    columns = [
        transverse * np.cosh(rapidity), pt * np.cos(phi), pt * np.sin(phi),
        transverse * np.sinh(rapidity),
    ]  # fmt: skip
    order = _by_falling_pt(pt, lengths)
    identities = {name: column[order] for name, column in _identities(pdg, numbers).items()}
    return Jets(
        np.stack(columns, axis=1).astype(np.float32)[order],
        np.concatenate([[0], np.cumsum(lengths)]),
        labels,
        source,
        CLASSES,
        identities,
    )


def _masses(numbers: IntArray, source: str) -> npt.NDArray[np.float64]:
    known, index = np.unique(numbers, return_inverse=True)
    if unknown := [int(n) for n in known if int(n) not in MASSES]:
        raise DataError(
            f"{source}: particles with PDG numbers {unknown}, whose masses are not known"
        )
    return np.array([MASSES[int(n)] for n in known])[index]


def _by_falling_pt(pt: npt.NDArray[np.float64], lengths: IntArray) -> IntArray:
    jet = np.repeat(np.arange(len(lengths)), lengths)
    return np.lexsort((-pt, jet))


def _identities(pdg: npt.NDArray[np.float64], numbers: IntArray) -> dict[str, FloatArray]:
    charged = np.isin(numbers, (*_CHARGED, 11, 13))
    # Negative leptons have positive PDG numbers, positive hadrons too.
    sign = np.sign(pdg) * np.where(np.isin(numbers, (11, 13)), -1, 1)
    flags = {
        "charge": np.where(charged, sign, 0),
        "is_charged_hadron": np.isin(numbers, _CHARGED),
        "is_neutral_hadron": np.isin(numbers, _NEUTRAL),
        "is_photon": numbers == 22,
        "is_electron": numbers == 11,
        "is_muon": numbers == 13,
    }
    return {name: np.asarray(values, dtype=np.float32) for name, values in flags.items()}
