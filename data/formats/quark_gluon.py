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

from data.errors import DataError
from data.jets import FloatArray, IntArray, Jets
from data.shards import read_shards

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


def _is_file(path: Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"X.npy", "y.npy"} <= set(archive.namelist())


def recognises(path: Path) -> bool:
    """Whether ``path`` is such an archive, or a folder with some."""
    return any(_is_file(file) for file in _all_files(path))


def _all_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]

    def number(file: Path) -> tuple[int, str]:
        found = re.search(r"_(\d+)$", file.stem)
        return int(found.group(1)) if found else 0, file.name

    return sorted(path.glob("*.npz"), key=number)


def files(path: Path, split: str) -> list[Path]:
    """All files: each split is a part of each file."""
    return [file for file in _all_files(path) if _is_file(file)]


def _bounds(total: int, split: str) -> tuple[int, int]:
    low, high = SHARES[split]
    return round(low * total), round(high * total)


def _labels(file: Path) -> npt.NDArray[np.float64]:
    with np.load(file, allow_pickle=False) as archive:
        return np.asarray(archive["y"])


def count(file: Path, split: str) -> int:
    """Jets of a split in a file."""
    low, high = _bounds(len(_labels(file)), split)
    return high - low


def read_file(file: Path, split: str, start: int = 0, stop: int | None = None) -> Jets:
    """Some jets of a file's part of a split."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            momenta, labels = archive["X"], archive["y"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: damaged or incomplete ({error}); fetch it again") from error
    if momenta.ndim != 3 or momenta.shape[2] != 4 or len(momenta) != len(labels):
        raise DataError(f"{file}: X has shape {momenta.shape}, y {labels.shape}")
    low, high = _bounds(len(labels), split)
    high = high if stop is None else min(high, low + stop)
    return _jets(momenta[low + start : high], labels[low + start : high], str(file))


def read(path: Path, split: str, limit: int | None = None) -> Jets:
    """One split; see :func:`data.formats.read_jets`."""
    return read_shards(files(path, split), read_file, path, split, limit)


def _jets(momenta: npt.NDArray[np.float64], labels: npt.ArrayLike, source: str) -> Jets:
    real = momenta[..., 0] > 0
    pt, rapidity, phi, pdg = (momenta[real][:, i].astype(np.float64) for i in range(4))
    numbers = np.abs(np.rint(pdg)).astype(np.int64)
    mass = _masses(numbers, source)
    transverse = np.hypot(pt, mass)
    columns = [
        transverse * np.cosh(rapidity), pt * np.cos(phi), pt * np.sin(phi),
        transverse * np.sinh(rapidity),
    ]  # fmt: skip
    lengths = real.sum(axis=1)
    order = _by_falling_pt(pt, lengths)
    particles = {name: column[order] for name, column in _identities(pdg, numbers).items()}
    return Jets(
        np.stack(columns, axis=1).astype(np.float32)[order],
        np.concatenate([[0], np.cumsum(lengths)]),
        np.asarray(labels).astype(np.int64),
        source,
        CLASSES,
        particles,
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
