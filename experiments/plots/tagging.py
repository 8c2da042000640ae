"""Plots of a tagger's test scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from experiments.metrics.tagging import roc
from experiments.plots.style import new_figure, save


def plot_roc(logits: Tensor, target: Tensor, directory: Path) -> None:
    """Background rejection against signal efficiency."""
    fpr, tpr = roc(logits, target)
    shown = fpr > 0
    figure, axes = new_figure()
    axes.plot(tpr[shown], 1 / fpr[shown], label="this run")
    grid = np.linspace(0.02, 1, 200)
    axes.plot(grid, 1 / grid, ls=":", c="grey", label="random")
    axes.set(
        xlabel=r"signal efficiency $\epsilon_S$",
        ylabel=r"background rejection $1/\epsilon_B$",
        yscale="log",
        xlim=(0, 1),
    )
    axes.legend()
    save(figure, directory, "roc")


def plot_scores(logits: Tensor, target: Tensor, directory: Path) -> None:
    """Distributions of the score for both classes."""
    scores = logits.sigmoid().numpy()
    figure, axes = new_figure()
    for label, name in ((1, "top"), (0, "QCD")):
        chosen = scores[target.numpy() == label]
        axes.hist(chosen, bins=np.linspace(0, 1, 41), histtype="step", density=True, label=name)
    axes.set(xlabel="score", ylabel="density", yscale="log", xlim=(0, 1))
    axes.legend()
    save(figure, directory, "scores")
