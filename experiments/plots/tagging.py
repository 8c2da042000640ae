"""Plots of test scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from experiments.data.batch import absent_classes
from experiments.metrics.calibration import reliability
from experiments.metrics.scores import Scores
from experiments.metrics.tagging import roc
from experiments.plots.style import new_figure, plain, save

_BACKGROUND_KEPT = (1.0, 0.5, 0.1)


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
    else:
        plot_confusion(scores, classes, directory)


def plot_roc(
    scores: Scores, classes: Sequence[str], background: str | None, directory: Path
) -> None:
    """Plot background rejection against signal efficiency, for each signal class."""
    figure, axes = new_figure()
    if scores.logits.dim() == 1:
        curves = {classes[1]: roc(scores.logits, scores.target)}
    else:
        curves = {}
        other = classes.index(background) if background else 0
        for signal, name in enumerate(classes):
            if signal != other:
                both = (scores.target == signal) | (scores.target == other)
                difference = scores.logits[both, signal] - scores.logits[both, other]
                curves[name] = roc(difference, (scores.target[both] == signal).long())
    for name, (fpr, tpr) in curves.items():
        shown = fpr > 0
        axes.plot(tpr[shown], 1 / fpr[shown], label=name)
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


def plot_scores(scores: Scores, classes: Sequence[str], directory: Path) -> None:
    """Plot the distributions of the score of both classes."""
    values = scores.logits.sigmoid().numpy()
    figure, axes = new_figure()
    for label in (1, 0):
        chosen = values[scores.target.numpy() == label]
        bins = np.linspace(0, 1, 41)
        axes.hist(chosen, bins=bins, histtype="step", density=True, label=classes[label])
    axes.set(xlabel="score", ylabel="density", yscale="log", xlim=(0, 1))
    axes.legend()
    save(figure, directory, "scores")


def plot_calibration(scores: Scores, directory: Path) -> None:
    """Plot observed against predicted frequency."""
    predicted, observed, count = reliability(scores.probability, scores.as_predicted)
    shown = count > 0
    error = (observed * (1 - observed) / count.clamp(min=1)).sqrt()
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], ls=":", c="grey")
    axes.errorbar(predicted[shown], observed[shown], yerr=error[shown], fmt="o")
    axes.set(xlabel="predicted probability", ylabel="observed frequency")
    save(figure, directory, "calibration")


def plot_sculpting(scores: Scores, classes: Sequence[str], directory: Path) -> None:
    """Plot the mass of all background jets, and of the most signal-like ones."""
    background = scores.target == 0
    mass, logits = scores.mass[background].numpy(), scores.logits[background]
    figure, axes = new_figure()
    bins = np.linspace(0, float(np.quantile(mass, 0.995)) if len(mass) else 1.0, 41)
    for share in _BACKGROUND_KEPT:
        kept = (logits >= torch.quantile(logits.double(), 1 - share)).numpy()
        label = f"all {classes[0]}" if share == 1 else f"the {share:.0%} most signal-like"
        axes.hist(mass[kept], bins=bins, histtype="step", density=True, label=label)
    axes.set(xlabel="jet mass (GeV)", ylabel="density")
    axes.legend(fontsize=11)
    save(figure, directory, "mass_sculpting")


def plot_confusion(scores: Scores, classes: Sequence[str], directory: Path) -> None:
    """Plot the confusion matrix: fractions of each true class by predicted class."""
    k = len(classes)
    pairs = scores.target * k + scores.logits.argmax(dim=1)
    counts = torch.bincount(pairs, minlength=k * k).view(k, k).double()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    figure, axes = new_figure()
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(k), classes, rotation=90, fontsize=10)
    axes.set_yticks(range(k), classes, fontsize=10)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, ax=axes)
    save(figure, directory, "confusion")
