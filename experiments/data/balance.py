"""Weights of training jets that balance classes, or make their spectra flat.

Legend: J jets.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data.errors import DataError, listed
from data.jets import FloatArray, Jets
from experiments.data.batch import WEIGHT

FloatArray64 = npt.NDArray[np.float64]
_KINEMATICS = ("pt", "eta", "mass")
_MOST_OUTSIDE = 0.5


def observable(jets: Jets, name: str) -> FloatArray64:
    """A quantity of jets, ``(J,)``: ``pt``, ``eta`` and ``mass`` of their momenta, or a column.

    Raises
    ------
    DataError
        If there is no such quantity.
    """
    if name not in _KINEMATICS:
        if name not in jets.jets:
            known = listed((*_KINEMATICS, *jets.jets))
            raise DataError(f"{jets.source}: its jets have no {name}, only {known}")
        return np.asarray(jets.jets[name], dtype=np.float64)
    constituents = np.asarray(jets.constituents, dtype=np.float64)
    p = np.add.reduceat(constituents, jets.offsets[:-1])
    pt = np.hypot(p[:, 1], p[:, 2])
    if name == "pt":
        return pt
    if name == "eta":
        return np.arcsinh(p[:, 3] / np.maximum(pt, 1e-9))
    return np.sqrt(np.maximum(p[:, 0] ** 2 - (p[:, 1:] ** 2).sum(axis=1), 0.0))


@dataclass(frozen=True)
class Balance:
    """How training jets are weighted, beside their own column ``weight``.

    Parameters
    ----------
    classes
        Whether all classes get the same sum of weights.
    flatten
        Edges of bins by quantity; the sum of weights of each class is made equal in all bins of
        all quantities together. Jets outside of the bins get the weight zero.
    largest
        Weights of more than this many times the mean of their class are lowered to that, so that
        single jets do not rule; bins of very few jets are then not flat.
    """

    classes: bool = False
    flatten: Mapping[str, Sequence[float]] | None = None
    largest: float = math.inf

    def __post_init__(self) -> None:
        for name, edges in (self.flatten or {}).items():
            if len(edges) < 2 or not np.all(np.diff(np.asarray(edges, dtype=np.float64)) > 0):
                raise DataError(
                    f"data.balance.flatten.{name}: two or more edges of bins that rise are "
                    f"wanted, not {list(edges)}"
                )

    @property
    def is_wanted(self) -> bool:
        """Whether it changes any weight."""
        return self.classes or bool(self.flatten)

    def fit(self, jets: Jets) -> Weights:
        """Measure the spectra of training jets.

        Raises
        ------
        DataError
            If all jets of a class lie outside of the bins, or a quantity is missing.
        """
        edges = {n: np.asarray(e, dtype=np.float64) for n, e in (self.flatten or {}).items()}
        shape = tuple(len(e) - 1 for e in edges.values())
        own, place = own_weights(jets), places(jets, edges)
        inside = place >= 0
        bins, classes = math.prod(shape), len(jets.classes)
        number = jets.labels * bins + np.maximum(place, 0)
        sums = np.bincount(number, own * inside, classes * bins).reshape(classes, bins)
        of_class = np.bincount(jets.labels, own, classes)
        for label, name in enumerate(jets.classes):
            if of_class[label] and not sums[label].any():
                raise DataError(
                    f"data.balance.flatten: no jet of {name} lies in the bins; widen them"
                )
        outside = 1 - sums.sum() / own.sum()
        if outside > _MOST_OUTSIDE:
            warnings.warn(
                f"data.balance.flatten: {outside:.0%} of the training jets lie outside of the bins "
                "and get the weight zero",
                stacklevel=2,
            )
        # Each class keeps its share of all weight, or all get the same.
        there, inside_bins = of_class > 0, sums.sum(axis=1)
        share = np.where(there, 1.0, 0.0) if self.classes else inside_bins
        filled = (sums > 0).sum(axis=1, keepdims=True)
        factor = _ratio(share[:, None], sums * filled)
        most = self.largest * _ratio((factor * sums).sum(axis=1), inside_bins)
        factor = np.minimum(factor, np.where(there, most, 0.0)[:, None])
        return Weights(edges, factor * len(jets) / float((factor * sums).sum()))


def _ratio(a: FloatArray64, b: FloatArray64) -> FloatArray64:
    """``a / b``, and zero where ``b`` is."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.zeros(b.shape), where=b != 0)


@dataclass(frozen=True)
class Weights:
    """Factors by class and bin; the mean weight of training jets is one.

    Parameters
    ----------
    edges
        Of the bins, by quantity.
    factor
        ``(classes, bins)``, by which a jet's own weight is multiplied.
    """

    edges: Mapping[str, FloatArray64]
    factor: FloatArray64

    def of(self, jets: Jets) -> FloatArray:
        """Weights of jets, ``(J,)``."""
        place = places(jets, self.edges)
        factor = self.factor[jets.labels, np.maximum(place, 0)]
        return np.where(place >= 0, factor * own_weights(jets), 0.0).astype(np.float32)


def own_weights(jets: Jets) -> FloatArray64:
    """The column ``weight`` of jets, or ones.

    Raises
    ------
    DataError
        If a weight is not finite, or all are zero or negative together.
    """
    found = np.asarray(jets.jets.get(WEIGHT, np.ones(len(jets))), dtype=np.float64)
    if not np.isfinite(found).all():
        jet = int(np.argmin(np.isfinite(found)))
        raise DataError(f"{jets.source}: jet {jet} has the weight {found[jet]}")
    if not found.sum() > 0:
        raise DataError(f"{jets.source}: the weights of its jets have the sum {found.sum():g}")
    return found


def places(jets: Jets, edges: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """The bin of each jet, ``(J,)``; -1 outside."""
    place = np.zeros(len(jets), np.int64)
    inside = np.ones(len(jets), np.bool_)
    for name, of_bins in edges.items():
        values = observable(jets, name)
        number = np.searchsorted(of_bins, values, side="right") - 1
        number[values == of_bins[-1]] = len(of_bins) - 2
        bins = len(of_bins) - 1
        inside &= (number >= 0) & (number < bins)
        place = place * bins + np.clip(number, 0, bins - 1)
    return np.where(inside, place, -1)
