"""Plots of scaling laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.metrics.scaling_law import ScalingLaw
from experiments.plots.style import new_figure, plain, save_as

Points = Sequence[tuple[float, float, float]]
"""x, loss and its error of each run."""


def plot_scaling(
    points: Mapping[str, Points], laws: Mapping[str, ScalingLaw], label: str, file: Path
) -> None:
    """Plot the loss of runs with fitted laws and their floors, one colour per network.

    Parameters
    ----------
    points, laws
        By network; laws of those that have one.
    label
        Of the horizontal axis.
    file
        Image to write; its suffix chooses the format.
    """
    figure, axes = new_figure()
    for number, (name, runs) in enumerate(points.items()):
        colour = f"C{number}"
        x, loss, error = map(np.array, zip(*runs, strict=True))
        axes.errorbar(x, loss, yerr=error, fmt="o", ms=5, capsize=3, c=colour, label=plain(name))
        if (law := laws.get(name)) is not None:
            grid = np.geomspace(x.min(), 10 * x.max(), 200)
            axes.plot(grid, law(grid), c=colour)
            axes.axhline(law.floor, ls=":", c=colour)
    axes.set(xlabel=label, ylabel="loss", xscale="log")
    axes.legend(fontsize=11)
    save_as(figure, file)
