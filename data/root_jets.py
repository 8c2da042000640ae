"""Jets from ROOT files with one tree entry per jet and jagged branches of particles.

JetClass and TopTagXL are such files; they differ in the names of branches and classes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError, install_hint
from data.jets import FloatArray, Jets

TREE = "tree"
MOMENTA = ("part_energy", "part_px", "part_py", "part_pz")
FLAGS = {
    "charge": "part_charge",
    "is_charged_hadron": "part_isChargedHadron",
    "is_neutral_hadron": "part_isNeutralHadron",
    "is_photon": "part_isPhoton",
    "is_electron": "part_isElectron",
    "is_muon": "part_isMuon",
}
_MAGIC = b"root"


@dataclass(frozen=True)
class Layout:
    """Which branch holds what.

    Parameters
    ----------
    labels
        Branch of each class by its name; exactly one of them is 1.
    particles
        Branch of each column of particles (see :mod:`data.columns`).
    jets
        Branch of each column of jets; those that a file lacks are left out.
    """

    labels: Mapping[str, str]
    particles: Mapping[str, str]
    jets: Mapping[str, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of labels."""
        return tuple(self.labels)


def is_root(path: Path) -> bool:
    """Whether ``path`` is a file that starts like a ROOT file, damaged or not."""
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        return handle.read(len(_MAGIC)) == _MAGIC


def _open(path: Path) -> Any:
    try:
        import uproot
    except ImportError as error:
        raise DataError(f"{path}: ROOT files need uproot; {install_hint('root')}") from error
    return uproot.open(path)


def _errors() -> tuple[type[Exception], ...]:
    """What uproot raises over a damaged file: it has no exception of its own for that."""
    return (OSError, ValueError, KeyError, IndexError, AssertionError, RuntimeError, TypeError)


def damaged(path: Path, error: Exception) -> DataError:
    """One line on a file that cannot be read."""
    lines = str(error).strip().splitlines()
    reason = " ".join(lines[0].split()) if lines else type(error).__name__
    return DataError(f"{path}: damaged or cut short ({reason}); fetch it again")


def branches(path: Path) -> set[str]:
    """Names of the branches of a file's tree; empty if it has none."""
    try:
        with _open(path) as file:
            return set(file[TREE].keys()) if TREE in file else set()
    except DataError:
        raise
    except _errors() as error:
        raise damaged(path, error) from error


def count(path: Path) -> int:
    """Jets in a file."""
    try:
        with _open(path) as file:
            return int(file[TREE].num_entries)
    except DataError:
        raise
    except _errors() as error:
        raise damaged(path, error) from error


def read(path: Path, layout: Layout, start: int, stop: int | None) -> Jets:
    """Jets ``start`` to ``stop`` of a file.

    Raises
    ------
    DataError
        If the file is damaged, lacks a branch, or a jet has not exactly one class.
    """
    try:
        with _open(path) as file:
            tree = file[TREE]
            present = set(tree.keys())
            wanted = {*MOMENTA, *layout.particles.values(), *layout.labels.values()}
            if missing := sorted(wanted - present):
                raise DataError(f"{path}: has no branch {', '.join(missing)}")
            jet_branches = {n: b for n, b in layout.jets.items() if b in present}
            wanted |= set(jet_branches.values())
            arrays = tree.arrays(
                sorted(wanted), entry_start=start, entry_stop=stop, library="ak", how=dict
            )
            return _jets(path, layout, arrays, jet_branches)
    except DataError:
        raise
    except _errors() as error:
        raise damaged(path, error) from error


def _jets(
    path: Path, layout: Layout, arrays: Mapping[str, Any], jet_branches: Mapping[str, str]
) -> Jets:
    import awkward as ak

    lengths = ak.to_numpy(ak.num(arrays[MOMENTA[0]])).astype(np.int64)

    def flat(branch: str) -> FloatArray:
        if not np.array_equal(ak.to_numpy(ak.num(arrays[branch])), lengths):
            raise DataError(f"{path}: branch {branch} has other lengths than {MOMENTA[0]}")
        return ak.to_numpy(ak.flatten(arrays[branch])).astype(np.float32)

    constituents = np.stack([flat(branch) for branch in MOMENTA], axis=1)
    flags = np.stack([ak.to_numpy(arrays[b]) for b in layout.labels.values()], axis=1) > 0.5
    wrong = flags.sum(axis=1) != 1
    if wrong.any():
        jet = int(np.argmax(wrong))
        raise DataError(f"{path}: jet {jet} has {int(flags[jet].sum())} classes instead of one")
    return Jets(
        constituents,
        np.concatenate([[0], np.cumsum(lengths)]),
        flags.argmax(axis=1).astype(np.int64),
        str(path),
        layout.classes,
        {name: flat(branch) for name, branch in layout.particles.items()},
        {name: ak.to_numpy(arrays[b]).astype(np.float32) for name, b in jet_branches.items()},
    )


def files(path: Path, split: str) -> list[Path]:
    """ROOT files of a split: in the folders below ``path`` whose names start with it."""
    folders = sorted(f for f in path.glob(f"{split}*") if f.is_dir())
    return [file for folder in folders for file in sorted(folder.rglob("*.root"))]


def recognises(path: Path, labels: Sequence[str]) -> bool:
    """Whether ``path`` is such a file, or a folder with such files, with these label branches."""
    if path.is_dir():
        candidates = [f for split in ("train", "val", "test") for f in files(path, split)]
    else:
        candidates = [path]
    for candidate in candidates:
        if is_root(candidate):
            try:
                return set(labels) <= branches(candidate)
            except DataError as error:
                if "uproot" in str(error):
                    raise
    return False
