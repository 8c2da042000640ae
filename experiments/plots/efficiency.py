"""Plot of data efficiency: a metric by number of training jets."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from experiments.plots.style import new_figure, save_as

Points = Mapping[int, list[float]]
"""Values of all seeds, by number of training jets."""


def plot_data_efficiency(
    curves: Mapping[str, Points], label: str, logarithmic: bool, file: Path
) -> None:
    """Plot the mean and standard deviation of the seeds, one line per network.

    Parameters
    ----------
    curves
        Points by network.
    label
        Label of the vertical axis.
    logarithmic
        Whether it is logarithmic.
    file
        Image to write; its suffix chooses the format.
    """
    figure, axes = new_figure()
    for name, points in curves.items():
        sizes = sorted(points)
        means = [statistics.mean(points[n]) for n in sizes]
        spreads = [statistics.stdev(points[n]) if len(points[n]) > 1 else 0.0 for n in sizes]
        axes.errorbar(sizes, means, yerr=spreads, marker="o", ms=5, capsize=3, label=name)
    axes.set(xlabel="training events", ylabel=label, xscale="log")
    axes.set_yscale("log" if logarithmic else "linear")
    axes.legend(fontsize=12)
    save_as(figure, file)
