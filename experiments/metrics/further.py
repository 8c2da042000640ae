"""Further quantities of jets that are predicted beside their classes.

Legend: J jets, Q outputs of a quantity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from data.atomic import atomic_path
from experiments.metrics.sample import OfSample
from experiments.metrics.scores import Scores


@dataclass(frozen=True)
class Further(OfSample):
    """Scores, and quantities by name in their own units.

    Parameters
    ----------
    scores
        Of the classes.
    predicted
        ``(J, Q)`` float64: the mean, or quantiles.
    true
        ``(J,)`` float64.
    """

    scores: Scores
    predicted: Mapping[str, Tensor]
    true: Mapping[str, Tensor]

    @classmethod
    def joined(cls, parts: list[Further]) -> Further:
        """Concatenate those of batches, on the CPU."""
        names = parts[0].true
        return cls(
            Scores.joined([part.scores for part in parts]),
            {name: torch.cat([p.predicted[name] for p in parts]).cpu() for name in names},
            {name: torch.cat([p.true[name] for p in parts]).cpu() for name in names},
        )

    def save(self, path: Path, levels: Mapping[str, Sequence[float]]) -> None:
        """Write predicted and true values to an HDF5 file: ``NAME/predicted``, ``NAME/true``."""
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            for name, predicted in self.predicted.items():
                group = file.create_group(name)
                group["predicted"], group["true"] = predicted.numpy(), self.true[name].numpy()
                group.attrs["quantiles"] = list(levels.get(name) or ())

    def middle(self, name: str) -> Tensor:
        """The prediction of a quantity, ``(J,)``: its mean, or the middle one of its quantiles."""
        predicted = self.predicted[name]
        return predicted[:, predicted.shape[1] // 2]


def further_metrics(
    results: Further, levels: Mapping[str, Sequence[float]], classes: Sequence[str]
) -> dict[str, Any]:
    """Metrics of each quantity.

    ``NAME_median_error`` is the median distance of predicted and true values, also for the jets of
    each class (``NAME_median_error_CLASS``); ``NAME_median_response`` and ``NAME_resolution`` are
    the median of predicted over true values, and half the width of its central 68 %; of quantiles,
    ``NAME_below_LEVEL`` is the share of jets whose true value lies below it.

    Parameters
    ----------
    results
        Of a whole sample.
    levels
        Of the quantiles of each quantity; none for means.
    classes
        Names of the classes.
    """
    found: dict[str, Any] = {}
    for name, true in results.true.items():
        predicted = results.middle(name)
        error = (predicted - true).abs()
        found[f"{name}_median_error"] = float(error.median())
        for label, of_class in enumerate(classes):
            mine = results.scores.target == label
            if mine.any():
                found[f"{name}_median_error_{of_class}"] = float(error[mine].median())
        ratio = predicted / torch.where(true == 0, torch.nan, true)
        low, middle, high = torch.nanquantile(ratio, ratio.new_tensor([0.16, 0.5, 0.84])).tolist()
        found[f"{name}_median_response"] = middle
        found[f"{name}_resolution"] = (high - low) / 2
        for place, level in enumerate(levels.get(name) or ()):
            below = (true < results.predicted[name][:, place]).double()
            found[f"{name}_below_{level:g}"] = float(below.mean())
    return found
