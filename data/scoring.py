"""Jets that are to be scored: labels are not needed, and what cannot be scored is flagged.

Legend: J jets, N constituents of all jets together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from data.described.description import Description, read_description
from data.described.reader import Reader
from data.described.sample import KnownSample
from data.errors import DataError, listed
from data.formats import Format, find_format
from data.jets import FASTEST, Jets
from data.reading import reading

Column = npt.NDArray[Any]


class JetFile(Protocol):
    """A file of jets, read in parts."""

    has_splits: bool
    """Whether these are the jets of one split of it."""

    def __len__(self) -> int: ...

    def jets(self, start: int, stop: int) -> Jets:
        """Jets ``start`` to ``stop``, not checked."""
        ...

    def columns(self, names: Sequence[str], start: int, stop: int) -> dict[str, Column]:
        """Further columns of those jets, as the file has them: a number for each."""
        ...


def jet_file(
    path: Path, columns: Sequence[str], description: Path | None = None, split: str = "test"
) -> JetFile:
    """Open a file of jets.

    Parameters
    ----------
    path
        The file.
    columns
        Columns of particles that are needed; a file may lack others.
    description
        Of the file, if it is of no known format. What it selects is not left out: all jets are
        scored, and stay in their order.
    split
        The part of files that hold several.

    Raises
    ------
    DataError
        If the file is of no known format, or the description is none.
    """
    if path.suffix in (".yaml", ".yml"):
        raise DataError(
            f"{path}: describes files of jets; give such a file, and this by --description"
        )
    if description is not None:
        return _Described(path, read_description(description), tuple(columns))
    form = find_format(path)
    if isinstance(form.module, KnownSample):
        return _Described(path, form.module.description, tuple(columns))
    return _Format(path, form, split)


class _Described:
    """A file with a description."""

    has_splits = False

    def __init__(self, path: Path, description: Description, columns: Sequence[str]) -> None:
        if missing := [name for name in columns if name not in description.particles]:
            raise DataError(
                f"{path}: its description has no particles.{', particles.'.join(missing)}, which "
                "the tagger's features are computed from"
            )
        needed = {name: description.particles[name] for name in columns}
        # Labels and columns of jets may be missing in a file that is to be scored.
        plain = replace(description, particles=needed, jets={}, optional_jets={}, select=None)
        self.path, self.reader = path, Reader(plain, labelled=False)

    @cached_property
    def _count(self) -> int:
        with reading(self.path):
            return self.reader.count(self.path)

    def __len__(self) -> int:
        return self._count

    def jets(self, start: int, stop: int) -> Jets:
        with reading(self.path):
            return self.reader.jets(self.path, start, stop)

    def columns(self, names: Sequence[str], start: int, stop: int) -> dict[str, Column]:
        with reading(self.path):
            there = self.reader.fields(self.path)
            if missing := [name for name in names if name not in there]:
                raise DataError(f"{self.path}: has no {listed(missing)}, only {listed(there, 40)}")
            found = {}
            for name, values in self.reader.values(self.path, names, start, stop).items():
                if values.ndim != 1:
                    raise DataError(f"{self.path}: {name} has more than one number for each jet")
                found[name] = np.asarray(values)
        return found


@dataclass
class _Format:
    """A split of a file of another format, which has labels; they are not looked at."""

    path: Path
    form: Format
    split: str
    has_splits = True

    @cached_property
    def _whole(self) -> Jets:
        with reading(self.path):
            return self.form.module.read(self.path, self.split, None)

    def __len__(self) -> int:
        if self.form.has_files:
            return self.form.count(self.path, self.split)
        return len(self._whole)

    def jets(self, start: int, stop: int) -> Jets:
        if not self.form.has_files:
            return self._whole.select(np.arange(start, min(stop, len(self._whole))))
        with reading(self.path):
            return self.form.module.read_file(self.path, self.split, start, stop)

    def columns(self, names: Sequence[str], start: int, stop: int) -> dict[str, Column]:
        jets = self.jets(start, stop)
        there = {**jets.jets, "label": jets.labels}
        if missing := [name for name in names if name not in there]:
            raise DataError(f"{self.path}: has no {listed(missing)}, only {listed(there)}")
        return {name: np.asarray(there[name]) for name in names}


def can_be_scored(jets: Jets, columns: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which jets have particles, and of which all are such: ``(J,)``.

    Energies must be positive, momenta at most :data:`~data.jets.FASTEST` times as large, and these
    and the columns that are needed finite.
    """
    p = jets.constituents.astype(np.float64)
    with np.errstate(all="ignore"):
        good = np.isfinite(p).all(axis=1) & (p[:, 0] > 0)
        good &= np.linalg.norm(p[:, 1:], axis=1) <= FASTEST * p[:, 0]
    for name in columns:
        good &= np.isfinite(jets.particles[name])
    number = np.repeat(np.arange(len(jets)), jets.lengths)
    bad = np.bincount(number[~good], minlength=len(jets))
    found: npt.NDArray[np.bool_] = (jets.lengths > 0) & (bad == 0)
    return found
