"""A sample of jets in memory: ragged constituents, no padding and no object per jet.

Legend: J jets, N constituents of all jets together.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from data.errors import DataError
from data.reading import Snapshot

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

BINARY = ("background", "signal")

Number = TypeVar("Number", bound=np.generic)

FASTEST = 1.01
"""|p| / E above which a momentum is wrong: half-precision files round massless ones to 1.001."""

_ORDER = "components must come as (E, px, py, pz), in GeV; reorder them, or clean the file first"

MAX_MEDIAN_PT = 20_000.0
"""Median jet pT in GeV above which the file is probably in MeV: no collider makes such jets."""

_JETS_FOR_UNITS = 1000
_ROWS_AT_ONCE = 1 << 20


def check_numbers(dtype: np.dtype, source: str) -> None:
    """Raise :class:`DataError` unless values of ``dtype`` are real numbers."""
    if dtype.kind not in "biuf":
        raise DataError(f"{source}: holds values of type {dtype}, expected numbers")


def as_labels(values: npt.NDArray, source: str) -> IntArray:
    """Labels as a file has them, ``(J,)`` whole numbers of any type.

    Raises
    ------
    DataError
        If they have another shape, or are not whole numbers.
    """
    check_numbers(values.dtype, f"{source}: labels")
    if values.ndim != 1:
        raise DataError(
            f"{source}: labels have shape {values.shape}, expected (jets,): one number per jet"
        )
    with np.errstate(all="ignore"):
        whole = values.astype(np.int64)
    if (wrong := whole != values).any():
        jet = int(np.argmax(wrong))
        raise DataError(
            f"{source}: jet {jet} has label {values[jet]}; labels must be whole numbers, 0 for the "
            "first class"
        )
    return whole


@dataclass(frozen=True)
class Jets:
    """Jets as one flat array of constituents with the offsets between them.

    Parameters
    ----------
    constituents
        ``(N, 4)`` float32, ``(E, px, py, pz)`` in GeV; may be memory-mapped.
    offsets
        ``(J + 1,)`` int64; jet ``j`` owns rows ``offsets[j]`` to ``offsets[j + 1]``.
    labels
        ``(J,)`` int64, numbers of ``classes``.
    source
        Where the jets came from, for error messages.
    classes
        Names of the classes. Labels of other programs are in other orders: names tell.
    particles
        Further columns of the constituents by name, ``(N,)`` float32 each; see
        :mod:`data.columns`.
    jets
        Columns of the jets by name, ``(J,)`` float32 each.
    snapshot
        The file that ``constituents`` is mapped from, to notice when it changes.
    """

    constituents: FloatArray
    offsets: IntArray
    labels: IntArray
    source: str
    classes: tuple[str, ...] = BINARY
    particles: Mapping[str, FloatArray] = field(default_factory=dict)
    jets: Mapping[str, FloatArray] = field(default_factory=dict)
    snapshot: Snapshot | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> IntArray:
        """Number of constituents of each jet, ``(J,)``."""
        return np.diff(self.offsets)

    def select(self, indices: IntArray) -> Jets:
        """The jets at ``indices``, in that order, copied out of a possibly mapped file."""
        starts = self.offsets[indices]
        lengths = self.offsets[indices + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        # Before, because a mapped file that was cut short ends the process when it is touched.
        self.check_unchanged()
        selected = replace(
            self,
            constituents=self.constituents[rows],
            offsets=offsets,
            labels=self.labels[indices],
            particles={name: column[rows] for name, column in self.particles.items()},
            jets={name: column[indices] for name, column in self.jets.items()},
            snapshot=None,
        )
        self.check_unchanged()
        return selected

    def leading(self, most: int) -> Jets:
        """The jets with their ``most`` constituents of the highest pT each, in the file's order.

        Of equal pT, those that come first are kept.
        """
        kept = self._pt_rank(most) < most
        lengths = np.minimum(self.lengths, most)
        return replace(
            self,
            constituents=self.constituents[kept],
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            particles={name: column[kept] for name, column in self.particles.items()},
        )

    def _pt_rank(self, most: int) -> IntArray:
        """Place of each constituent by falling pT in its jet, ``(N,)``, exact where it matters.

        Jets of up to ``most`` constituents, and those that are in order, keep the file's.
        """
        rows = np.arange(len(self.constituents))
        rank = rows - np.repeat(self.offsets[:-1], self.lengths)
        pt = np.hypot(self.constituents[:, 1], self.constituents[:, 2])
        rises = np.flatnonzero((np.diff(pt, prepend=np.inf) > 0) & (rank > 0))
        jets = np.unique(np.searchsorted(self.offsets, rises, side="right") - 1)
        for jet in jets[self.lengths[jets] > most].tolist():
            first, last = self.offsets[jet], self.offsets[jet + 1]
            order = np.argsort(-pt[first:last], kind="stable")
            rank[first + order] = np.arange(last - first)
        return rank

    def without_small_components(self, smallest: float) -> Jets:
        """The jets without particles of which any component is this small, in GeV.

        Programs behind several papers take such particles for padding; a jet of nothing else
        keeps its first one. Particles of this library are real when their energy is positive.
        """
        large = np.abs(self.constituents) > smallest
        kept: npt.NDArray[np.bool_] = np.asarray(large.all(axis=1))
        starts = self.offsets[:-1]
        kept[starts[np.add.reduceat(kept, starts, dtype=np.int64) == 0]] = True
        counts = np.add.reduceat(kept, starts, dtype=np.int64)
        return replace(
            self,
            constituents=self.constituents[kept],
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            particles={name: column[kept] for name, column in self.particles.items()},
        )

    def check_unchanged(self) -> None:
        """Raise :class:`DataError` if the jets are mapped from a file that has changed."""
        if self.snapshot is not None:
            self.snapshot.check()

    def check(self) -> None:
        """Raise :class:`DataError` unless these are jets of known classes.

        What is asked: two or more classes with different names; labels that are their numbers;
        at least one jet, and at least one constituent in each; finite numbers, positive energies,
        and no momentum larger than :data:`FASTEST` times its energy.
        """
        self._check_classes()
        self._check_offsets()
        self._check_labels()
        self._check_columns()
        self._check_momenta()

    def warn_of_units(self) -> None:
        """Warn if the first jets are so hard that the file must be in MeV."""
        starts = self.offsets[: min(len(self), _JETS_FOR_UNITS) + 1]
        momenta = np.asarray(self.constituents[: starts[-1], 1:3], dtype=np.float64)
        pt = np.linalg.norm(np.add.reduceat(momenta, starts[:-1]), axis=1)
        if (median := float(np.median(pt))) > MAX_MEDIAN_PT:
            warnings.warn(
                f"{self.source}: the median jet pT is {median:,.0f} GeV; momenta must be in GeV, "
                "are these in MeV?",
                stacklevel=3,
            )

    def _check_classes(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise DataError(
                f"{self.source}: classes are {', '.join(self.classes) or 'missing'}; expected two "
                "or more different names"
            )
        if wrong := [name for name in self.classes if not name.isprintable()]:
            raise DataError(f"{self.source}: class {wrong[0]!r} is no name that can be printed")

    def _check_offsets(self) -> None:
        if len(self.offsets) != len(self.labels) + 1:
            raise DataError(
                f"{self.source}: {len(self.labels)} labels for {len(self.offsets) - 1} jets"
            )
        if len(self) == 0:
            raise DataError(f"{self.source}: holds no jet; fetch or generate it again")
        lengths = self.lengths
        if self.offsets[0] != 0 or lengths.min() < 0 or self.offsets[-1] != len(self.constituents):
            raise DataError(
                f"{self.source}: offsets must rise from 0 to the number of constituents "
                f"({len(self.constituents)}); the file is damaged or was cut short"
            )
        if lengths.min() == 0:
            jet = int(np.argmin(lengths))
            raise DataError(
                f"{self.source}: jet {jet} has no constituent; remove empty jets from the file"
            )

    def _check_labels(self) -> None:
        bad = (self.labels < 0) | (self.labels >= len(self.classes))
        if bad.any():
            jet = int(np.argmax(bad))
            meaning = ", ".join(f"{i} ({name})" for i, name in enumerate(self.classes))
            raise DataError(
                f"{self.source}: jet {jet} has label {self.labels[jet]}; labels must be {meaning}"
            )

    def _check_columns(self) -> None:
        sizes = {"particles": len(self.constituents), "jets": len(self)}
        for kind, size in sizes.items():
            for name, column in getattr(self, kind).items():
                if column.shape != (size,):
                    raise DataError(
                        f"{self.source}: column {kind}/{name} has shape {column.shape}, "
                        f"expected ({size},)"
                    )

    def _check_momenta(self) -> None:
        for name, column in self.particles.items():
            if not np.isfinite(column).all():
                self._complain(~np.isfinite(column), f"a NaN or infinite {name}")
        for first in range(0, len(self.constituents), _ROWS_AT_ONCE):
            momenta = np.asarray(self.constituents[first : first + _ROWS_AT_ONCE], dtype=np.float64)
            finite = np.isfinite(momenta).all(axis=1)
            if not finite.all():
                self._complain(~finite, "a NaN or infinite four-momentum", first)
            energy = momenta[:, 0]
            if not (energy > 0).all():
                self._complain(energy <= 0, "a constituent with energy <= 0", first, _ORDER)
            fast = np.asarray(np.linalg.norm(momenta[:, 1:], axis=1) > FASTEST * energy)
            if fast.any():
                self._complain(fast, f"a constituent with |p| > {FASTEST} E", first, _ORDER)

    def _complain(
        self, bad: npt.ArrayLike, what: str, first: int = 0, advice: str = "clean the file first"
    ) -> None:
        row = first + int(np.argmax(bad))
        jet = int(np.searchsorted(self.offsets, row, side="right")) - 1
        raise DataError(
            f"{self.source}: jet {jet} has {what} "
            f"({int(np.sum(bad))} such constituents or more); {advice}"
        )


def unpad(momenta: npt.NDArray[Number]) -> tuple[npt.NDArray[Number], IntArray]:
    """The real constituents of zero-padded jets ``(n, particles, 4)``, and how many each has.

    Padding is all zero. A real particle may have one tiny component, or, in a damaged file, a NaN
    or a negative energy, which the checks that follow must see.
    """
    real = (momenta != 0).any(axis=2)
    return momenta[real], real.sum(axis=1)


def join(pieces: list[tuple[FloatArray, IntArray]], labels: IntArray, source: str) -> Jets:
    """Jets from pieces as :func:`unpad` returns them."""
    constituents = np.concatenate([np.zeros((0, 4), np.float32), *(p for p, _ in pieces)])
    lengths = np.concatenate([np.zeros(0, np.int64), *(n for _, n in pieces)])
    return Jets(constituents, np.concatenate([[0], np.cumsum(lengths)]), labels, source)


def concatenate(parts: Sequence[Jets], source: str) -> Jets:
    """Jets of several files as one sample; they must have the same classes and columns."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for part in parts[1:]:
        kinds = (part.classes, set(part.particles), set(part.jets))
        if kinds != (first.classes, set(first.particles), set(first.jets)):
            raise DataError(f"{part.source} and {first.source} differ in classes or columns")
    for part in parts:
        part.check_unchanged()
    lengths = np.concatenate([part.lengths for part in parts])
    return Jets(
        np.concatenate([part.constituents for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([part.labels for part in parts]),
        source,
        first.classes,
        {name: np.concatenate([p.particles[name] for p in parts]) for name in first.particles},
        {name: np.concatenate([p.jets[name] for p in parts]) for name in first.jets},
    )
