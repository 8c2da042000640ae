"""Plots of test scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.jets import FloatArray
from experiments.data.batch import absent_classes
from experiments.metrics.calibration import reliability
from experiments.metrics.scores import Scores
from experiments.metrics.tagging import effective_number, roc
from experiments.plots import spectra
from experiments.plots.style import new_figure, plain, save

_BACKGROUND_KEPT = (1.0, 0.5, 0.1)
_WORKING_POINTS = (0.3, 0.5)
_DARK = 0.6


def plot_all(
    scores: Scores, classes: Sequence[str], background: str | None, directory: Path
) -> None:
    """Draw all plots of a test.

    Parameters
    ----------
    scores
        Scores of the test sample.
    classes
        Names of the classes.
    background
        For more than two classes, the one that others are discriminated from.
    directory
        Directory of the plots.
    """
    classes = [plain(name) for name in classes]
    background = None if background is None else plain(background)
    plot_calibration(scores, directory)
    if absent_classes(scores.target, tuple(classes)):
        return  # the others compare classes
    plot_roc(scores, classes, background, directory)
    if scores.logits.dim() == 1:
        plot_scores(scores, classes, directory)
        plot_sculpting(scores, classes, directory)
        spectra.plot_all(scores, classes, directory)
    else:
        plot_confusion(scores, classes, directory)


def plot_roc(
    scores: Scores, classes: Sequence[str], background: str | None, directory: Path
) -> None:
    """Plot background rejection against signal efficiency, for each signal class."""
    figure, axes = new_figure()
    if scores.logits.dim() == 1:
        curves = {classes[1]: roc(scores.logits, scores.target, scores.weight)}
    else:
        curves = {}
        other = classes.index(background) if background else 0
        for signal, name in enumerate(classes):
            if signal != other:
                both = (scores.target == signal) | (scores.target == other)
                pair = scores.where(both)
                difference = pair.logits[:, signal] - pair.logits[:, other]
                curves[name] = roc(difference, (pair.target == signal).long(), pair.weight)
    background_jets = _effective(scores, 0 if background is None else classes.index(background))
    for name, (fpr, tpr) in curves.items():
        draw_roc(axes, fpr, tpr, background_jets, name)
    grid = np.linspace(0.02, 1, 200)
    axes.plot(grid, 1 / grid, ls=":", c="grey", label="random")
    axes.set(
        xlabel=r"signal efficiency $\epsilon_S$",
        ylabel=r"background rejection $1/\epsilon_B$",
        yscale="log",
        xlim=(0, 1),
    )
    axes.legend(fontsize=11)
    save(figure, directory, "roc")


def draw_roc(axes: Any, fpr: Tensor, tpr: Tensor, background: float, label: str) -> None:
    """Draw a curve with its statistical error, and the usual working points.

    Parameters
    ----------
    axes
        To draw on.
    fpr, tpr
        False and true positive rates, rising.
    background
        Effective number of background jets, for the error.
    label
        For the legend.
    """
    grid = torch.linspace(0.02, 1, 400, dtype=torch.float64)
    place = torch.searchsorted(tpr.contiguous(), grid).clamp(max=len(tpr) - 1)
    shown = fpr[place] > 0
    at, passed = grid[shown].numpy(), fpr[place][shown].numpy()
    error = np.sqrt(passed * (1 - passed) / max(background, 1.0))
    (line,) = axes.plot(at, 1 / passed, label=label)
    low, high = passed + error, np.maximum(passed - error, 0.3 * passed)
    axes.fill_between(at, 1 / low, 1 / high, color=line.get_color(), alpha=0.25, lw=0)
    for efficiency in _WORKING_POINTS:
        if (at >= efficiency).any():
            first = int(np.argmax(at >= efficiency))
            axes.plot(at[first], 1 / passed[first], "o", ms=5, c=line.get_color())


def _effective(scores: Scores, label: int) -> float:
    mine = scores.where(scores.target == label)
    weight = torch.ones(len(mine.target)) if mine.weight is None else mine.weight
    return effective_number(weight)


def plot_scores(scores: Scores, classes: Sequence[str], directory: Path) -> None:
    """Plot the distributions of the score of both classes."""
    figure, axes = new_figure()
    for label in (1, 0):
        of_class = scores.where(scores.target == label)
        values, bins = of_class.logits.sigmoid().numpy(), np.linspace(0, 1, 41)
        axes.hist(
            values, bins=bins, weights=_weights(of_class), histtype="step", density=True,
            label=classes[label],
        )  # fmt: skip
    axes.set(xlabel="score", ylabel="density", yscale="log", xlim=(0, 1))
    axes.legend()
    save(figure, directory, "scores")


def plot_calibration(scores: Scores, directory: Path) -> None:
    """Plot observed against predicted frequency."""
    predicted, observed, count = reliability(
        scores.probability, scores.as_predicted, weight=scores.weight
    )
    shown = count > 0
    error = (observed * (1 - observed) / count.clamp(min=1)).sqrt()
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], ls=":", c="grey")
    axes.errorbar(predicted[shown], observed[shown], yerr=error[shown], fmt="o")
    axes.set(xlabel="predicted probability", ylabel="observed frequency")
    save(figure, directory, "calibration")


def plot_sculpting(scores: Scores, classes: Sequence[str], directory: Path) -> None:
    """Plot the mass of all background jets, and of the most signal-like ones."""
    background = scores.where(scores.target == 0)
    mass, logits, weights = background.mass.numpy(), background.logits, _weights(background)
    figure, axes = new_figure()
    bins = np.linspace(0, float(np.quantile(mass, 0.995)) if len(mass) else 1.0, 41)
    for share in _BACKGROUND_KEPT:
        kept = (logits >= torch.quantile(logits.double(), 1 - share)).numpy()
        label = f"all {classes[0]}" if share == 1 else f"the {share:.0%} most signal-like"
        of_kept = None if weights is None else weights[kept]
        axes.hist(
            mass[kept], bins=bins, weights=of_kept, histtype="step", density=True, label=label
        )
    axes.set(xlabel="jet mass (GeV)", ylabel="density")
    axes.legend(fontsize=11)
    save(figure, directory, "mass_sculpting")


def plot_confusion(scores: Scores, classes: Sequence[str], directory: Path) -> None:
    """Plot the confusion matrix: fractions of each true class by predicted class."""
    k = len(classes)
    pairs = scores.target * k + scores.logits.argmax(dim=1)
    each = torch.ones(len(pairs)) if scores.weight is None else scores.weight
    counts = torch.bincount(pairs, each.double(), k * k).view(k, k)
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    figure, axes = new_figure()
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(k), classes, rotation=90, fontsize=10)
    axes.set_yticks(range(k), classes, fontsize=10)
    for row in range(k):
        for column in range(k):
            share = float(shares[row, column])
            axes.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=9,
                color="black" if share > _DARK else "white",
            )  # fmt: skip
    axes.set(xlabel="predicted class (numbers in %)", ylabel="true class")
    figure.colorbar(image, ax=axes)
    save(figure, directory, "confusion")


def _weights(scores: Scores) -> FloatArray | None:
    """Weights of jets for histograms."""
    return None if scores.weight is None else scores.weight.numpy()
