"""Plots of quantities that are predicted beside classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.metrics.further import Further
from experiments.plots.style import new_figure, plain, save


def plot_all(results: Further, classes: Sequence[str], directory: Path) -> None:
    """Draw predicted over true values of each quantity, for the jets of each class."""
    for name in results.true:
        plot_response(results, name, [plain(c) for c in classes], directory)


def plot_response(results: Further, name: str, classes: Sequence[str], directory: Path) -> None:
    """Plot the distribution of predicted over true values."""
    true = results.true[name]
    ratio = (results.middle(name) / true.where(true != 0, float("nan"))).numpy()
    figure, axes = new_figure()
    bins = np.linspace(0, 2, 61)
    for label, title in enumerate(classes):
        chosen = ratio[(results.scores.target == label).numpy()]
        if len(chosen):
            axes.hist(np.clip(chosen, 0, 2), bins=bins, histtype="step", density=True, label=title)
    axes.axvline(1, ls=":", c="grey")
    axes.set(xlabel=f"predicted / true {plain(name)}", ylabel="density", xlim=(0, 2))
    axes.legend(fontsize=11)
    save(figure, directory, f"response_{name}")
