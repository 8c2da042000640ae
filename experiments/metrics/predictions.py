"""Predictions of a regression on a whole sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from data.atomic import atomic_path
from experiments.metrics.sample import OfSample


def _concatenated(parts: Sequence[Tensor | None]) -> Any:
    there = [part for part in parts if part is not None]
    return torch.cat(there).cpu() if there else None


@dataclass(frozen=True)
class Predictions(OfSample):
    """Predicted and true values of events, in units of the network.

    Parameters
    ----------
    predicted, target
        ``(B,)`` float64: of differences between numbers that nearly agree.
    sigma
        ``(B,)`` float64, the predicted standard deviation of the error, if there is one.
    hierarchy
        ``(B,)`` float64, of :func:`.hierarchy`: where in phase space events are.
    """

    predicted: Tensor
    target: Tensor
    sigma: Tensor | None = None
    hierarchy: Tensor | None = None

    @classmethod
    def joined(cls, parts: list[Predictions]) -> Predictions:
        """Concatenate those of batches, on the CPU."""
        rows = ((p.predicted, p.target, p.sigma, p.hierarchy) for p in parts)
        columns = zip(*rows, strict=True)
        return cls(*(_concatenated(column) for column in columns))

    def save(self, path: Path, mean: float, std: float) -> None:
        """Write logarithms of amplitudes to an HDF5 file, with what standardised them."""
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            file["predicted"] = (self.predicted * std + mean).numpy()
            file["target"] = (self.target * std + mean).numpy()
            if self.hierarchy is not None:
                file["hierarchy"] = self.hierarchy.numpy()
            if self.sigma is not None:
                file["sigma"] = (self.sigma * std).numpy()
            file.attrs.update({"mean": mean, "std": std, "unit": "logarithm of the amplitude"})
