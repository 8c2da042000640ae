"""ROOT files: the branches of a tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.described.sources.base import NoSuchTree
from data.errors import DataError, install_hint, listed
from data.sizes import check_declared

NAME = "ROOT"
_MAGIC = b"root"


def recognises(path: Path) -> bool:
    """Whether a file starts like a ROOT file, damaged or not."""
    with open(path, "rb") as handle:
        return handle.read(len(_MAGIC)) == _MAGIC


@contextmanager
def opened(path: Path, tree: str | None) -> Iterator[Tree]:
    """Open a tree; None is the only one of the file."""
    try:
        import uproot
    except ImportError as error:
        raise DataError(f"{path}: ROOT files need uproot; {install_hint('root')}") from error
    with uproot.open(path) as file:
        yield Tree(path, _tree(path, file, tree))


def _tree(path: Path, file: Any, name: str | None) -> Any:
    if name is None:
        trees = {key.split(";")[0] for key, kind in file.classnames().items() if "TTree" in kind}
        if len(trees) != 1:
            raise DataError(f"{path}: holds the trees {listed(trees)}; name one as tree")
        (name,) = trees
    if name not in file:
        raise NoSuchTree(f"{path}: has no {name!r}, only {listed(file.keys())}")
    tree = file[name]
    if not hasattr(tree, "num_entries") or not hasattr(tree, "branches"):
        raise DataError(f"{path}: {name!r} is a {type(tree).__name__}, where a tree is expected")
    check_declared(path, f"{tree.num_entries:,} entries", tree.num_entries, path.stat().st_size)
    return tree


class Tree:
    """An opened tree, whose size the file can have.

    Parameters
    ----------
    path
        The file.
    tree
        Of uproot.
    """

    def __init__(self, path: Path, tree: Any) -> None:
        self.path, self.tree = path, tree
        self._branches = {key.rsplit("/", 1)[-1]: key for key in tree.keys()}

    def fields(self) -> tuple[str, ...]:
        """Names of the branches, without those that they are in."""
        return tuple(self._branches)

    def count(self, names: Sequence[str]) -> int:
        """Entries of the tree."""
        self._check(names)
        return int(self.tree.num_entries)

    def read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Entries ``start`` to ``stop`` of branches."""
        self._check(names)
        keys = [self._branches[name] for name in names]
        found = self.tree.arrays(
            keys, entry_start=start, entry_stop=stop, library="ak", how=dict, ak_add_doc=False
        )
        return {name: found[key] for name, key in zip(names, keys, strict=True)}

    def _check(self, names: Sequence[str]) -> None:
        if missing := [name for name in names if name not in self._branches]:
            raise DataError(f"{self.path}: has no branch {listed(missing)}")
        for name in names:
            branch = self.tree[self._branches[name]]
            if branch.num_entries != self.tree.num_entries:
                raise DataError(
                    f"{self.path}: branch {name} has {branch.num_entries} entries for "
                    f"{self.tree.num_entries} of the tree"
                )
            declared = int(branch.uncompressed_bytes)
            check_declared(self.path, f"branch {name}", declared, self.path.stat().st_size)
