"""Jets from ROOT files with one tree entry per jet and jagged branches of particles.

JetClass and TopTagXL are such files; they differ in the names of branches and classes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError, install_hint, listed
from data.jets import FloatArray, Jets, check_numbers
from data.shards import visible
from data.sizes import check_declared

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


def recognises(path: Path, labels: Sequence[str]) -> bool:
    """Whether ``path`` is a ROOT file with a tree that has these label branches."""
    if not is_root(path):
        return False
    with _open(path) as file:
        return TREE in file and set(labels) <= set(file[TREE].keys())


def _tree(path: Path, file: Any) -> Any:
    """The tree of jets, whose size the file can have."""
    if TREE not in file:
        raise DataError(f"{path}: has no {TREE!r}, only {listed(file.keys())}")
    tree = file[TREE]
    if not hasattr(tree, "num_entries") or not hasattr(tree, "branches"):
        raise DataError(f"{path}: {TREE!r} is a {type(tree).__name__}, where a tree is expected")
    check_declared(path, f"{tree.num_entries:,} jets", tree.num_entries, path.stat().st_size)
    return tree


def count(path: Path) -> int:
    """Jets in a file."""
    with _open(path) as file:
        return int(_tree(path, file).num_entries)


def read(path: Path, layout: Layout, start: int, stop: int | None) -> Jets:
    """Jets ``start`` to ``stop`` of a file.

    Raises
    ------
    DataError
        If the file lacks a branch, or a jet has not exactly one class.
    """
    with _open(path) as file:
        tree = _tree(path, file)
        present = set(tree.keys())
        wanted = {*MOMENTA, *layout.particles.values(), *layout.labels.values()}
        if missing := sorted(wanted - present):
            raise DataError(f"{path}: has no branch {listed(missing)}")
        jet_branches = {n: b for n, b in layout.jets.items() if b in present}
        wanted |= set(jet_branches.values())
        for branch in sorted(wanted):
            _check_branch(path, tree, tree[branch])
        arrays = tree.arrays(
            sorted(wanted), entry_start=start, entry_stop=stop, library="ak", how=dict
        )
        return _jets(path, layout, arrays, jet_branches)


def _check_branch(path: Path, tree: Any, branch: Any) -> None:
    if branch.num_entries != tree.num_entries:
        raise DataError(
            f"{path}: branch {branch.name} has {branch.num_entries} entries for "
            f"{tree.num_entries} jets"
        )
    declared = int(branch.uncompressed_bytes)
    check_declared(path, f"branch {branch.name}", declared, path.stat().st_size)


def _jets(
    path: Path, layout: Layout, arrays: Mapping[str, Any], jet_branches: Mapping[str, str]
) -> Jets:
    import awkward as ak

    def check_axes(branch: str, axes: int) -> None:
        if arrays[branch].ndim != axes:
            wanted = "one number per jet" if axes == 1 else "a list of numbers per jet"
            raise DataError(f"{path}: branch {branch} is {arrays[branch].type}, expected {wanted}")

    def numbers(branch: str, values: Any) -> FloatArray:
        found = np.asarray(ak.to_numpy(values))
        check_numbers(found.dtype, f"{path}: branch {branch}")
        return found.astype(np.float32)

    def flat(branch: str) -> FloatArray:
        check_axes(branch, 2)
        if not np.array_equal(ak.to_numpy(ak.num(arrays[branch])), lengths):
            raise DataError(f"{path}: branch {branch} has other lengths than {MOMENTA[0]}")
        return numbers(branch, ak.flatten(arrays[branch]))

    def one_each(branch: str) -> FloatArray:
        check_axes(branch, 1)
        return numbers(branch, arrays[branch])

    check_axes(MOMENTA[0], 2)
    lengths = ak.to_numpy(ak.num(arrays[MOMENTA[0]])).astype(np.int64)
    constituents = np.stack([flat(branch) for branch in MOMENTA], axis=1)
    found = np.stack([one_each(b) for b in layout.labels.values()], axis=1)
    if not np.isin(found, (0, 1)).all():
        jet = int(np.argmin(np.isin(found, (0, 1)).all(axis=1)))
        raise DataError(f"{path}: jet {jet} has labels {found[jet]}, expected one 1 and zeros")
    flags = found > 0
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
        {name: one_each(branch) for name, branch in jet_branches.items()},
    )


def files(path: Path, split: str) -> list[Path]:
    """ROOT files of a split: in the folders below ``path`` whose names start with it."""
    folders = visible(f for f in path.glob(f"{split}*") if f.is_dir())
    return [file for folder in folders for file in visible(folder.rglob("*.root"))]
