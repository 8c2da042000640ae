"""How a tagger of two classes works for jets of different transverse momentum and mass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.jets import FloatArray
from experiments.metrics.scores import Scores
from experiments.plots.style import new_figure, save

QUANTITIES = {"pt": "jet $p_T$ (GeV)", "mass": "jet mass (GeV)"}
_EFFICIENCY = 0.5
_BINS = 10
_FEWEST = 5
"""Jets of a bin that is shown."""


def plot_all(scores: Scores, classes: Sequence[str], directory: Path) -> None:
    """Plot the efficiencies of both classes against each quantity, for one cut on the score."""
    for name, label in QUANTITIES.items():
        if torch.isfinite(getattr(scores, name)).all():
            plot_efficiency(scores, classes, name, label, directory)


def plot_efficiency(
    scores: Scores, classes: Sequence[str], quantity: str, label: str, directory: Path
) -> None:
    """Plot the shares of both classes that pass a cut which half of the signal passes."""
    signal = scores.logits[scores.target == 1]
    cut = torch.quantile(signal.double(), 1 - _EFFICIENCY)
    values: Tensor = getattr(scores, quantity)
    edges = np.unique(np.quantile(values.numpy(), np.linspace(0, 1, _BINS + 1)))
    figure, axes = new_figure()
    for of_class, title in ((1, classes[1]), (0, classes[0])):
        mine = scores.where(scores.target == of_class)
        passed = (mine.logits >= cut).numpy()
        at, share, error = _shares(getattr(mine, quantity).numpy(), passed, _weight(mine), edges)
        axes.errorbar(at, share, yerr=error, fmt="o", ms=5, capsize=3, label=title)
    axes.set(xlabel=label, ylabel="share that passes", yscale="log")
    axes.legend(fontsize=11)
    save(figure, directory, f"efficiency_{quantity}")


def _weight(scores: Scores) -> FloatArray:
    if scores.weight is None:
        return np.ones(len(scores.target), np.float32)
    found: FloatArray = scores.weight.numpy()
    return found


def _shares(
    values: FloatArray, passed: np.ndarray, weight: FloatArray, edges: np.ndarray
) -> tuple[list[float], list[float], list[float]]:
    """Middle of each bin, the share of its jets that passes, and its binomial error."""
    at, shares, errors = [], [], []
    for low, high in zip(edges, edges[1:], strict=False):
        mine = (values >= low) & ((values < high) | (high == edges[-1]))
        total = float(weight[mine].sum())
        if int(mine.sum()) < _FEWEST or total <= 0:
            continue
        share = float(weight[mine & passed].sum()) / total
        number = total**2 / float((weight[mine] ** 2).sum())
        if share <= 0:
            continue  # which a logarithmic axis cannot show
        at.append(float(np.median(values[mine])))
        shares.append(share)
        errors.append(float(np.sqrt(max(share * (1 - share), 0.0) / number)))
    return at, shares, errors
