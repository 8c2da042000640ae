"""Plots of predicted amplitudes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from data.amplitudes.arrays import FloatArray
from experiments.metrics.predictions import Predictions
from experiments.metrics.regression_metrics import pulls, relative_errors
from experiments.plots.style import new_figure, save

_SMALLEST, _LARGEST = 1e-6, 1e2
_WIDEST_PULL = 6.0
_NEAREST = 1e-12


def plot_all(results: Predictions, mean: float, std: float, directory: Path) -> None:
    """Draw all plots of a test.

    Parameters
    ----------
    results
        Standardised logarithms.
    mean, std
        What standardised them.
    directory
        Directory of the plots.
    """
    plot_relative_errors(results, std, directory)
    residual = ((results.predicted - results.target) * std).numpy()
    true = (results.target * std + mean).numpy() / np.log(10)
    label = r"$\log_{10}$ of the amplitude"
    plot_residuals(residual, true, label, "residuals", directory)
    if results.hierarchy is not None:
        near = np.log10(results.hierarchy.numpy().clip(_NEAREST))
        label = r"$\log_{10}$ of smallest over largest $|p_i\cdot p_j|$"
        plot_residuals(residual, near, label, "residuals_phase_space", directory)
    plot_predicted(results, mean, std, directory)
    if results.sigma is not None:
        plot_pulls(pulls(results, results.sigma), directory)


def plot_relative_errors(results: Predictions, std: float, directory: Path) -> None:
    """Plot the distribution of the size of relative errors."""
    sizes = relative_errors(results, std).abs().numpy()
    figure, axes = new_figure()
    bins = np.geomspace(_SMALLEST, _LARGEST, 81)
    axes.hist(sizes.clip(_SMALLEST, _LARGEST), bins=bins, histtype="step", lw=2)
    axes.axvline(np.median(sizes).clip(_SMALLEST, _LARGEST), ls=":", c="grey", label="median")
    axes.set(xlabel="relative error of the amplitude", ylabel="events", xscale="log")
    axes.legend()
    save(figure, directory, "relative_errors")


def plot_residuals(
    residual: FloatArray, against: FloatArray, label: str, name: str, directory: Path
) -> None:
    """Plot quantiles of residuals of the logarithm against a quantity of the events.

    Parameters
    ----------
    residual
        ``(B,)`` predicted less true logarithms.
    against
        ``(B,)`` values of the quantity.
    label, name
        Of its axis, and of the file.
    directory
        Directory of the plots.
    """
    edges = np.unique(np.quantile(against, np.linspace(0, 1, 21)))
    if len(edges) < 3:
        return  # of a few events
    place = np.clip(np.searchsorted(edges, against, side="right") - 1, 0, len(edges) - 2)
    filled = [i for i in range(len(edges) - 1) if (place == i).any()]
    found = [np.quantile(residual[place == i], (0.025, 0.16, 0.5, 0.84, 0.975)) for i in filled]
    centres = [against[place == i].mean() for i in filled]
    low2, low1, middle, high1, high2 = np.array(found).T
    figure, axes = new_figure()
    axes.fill_between(centres, low2, high2, alpha=0.25, label="95 % of events")
    axes.fill_between(centres, low1, high1, alpha=0.4, label="68 %")
    axes.plot(centres, middle, label="median")
    axes.axhline(0, ls=":", c="grey")
    axes.set(xlabel=label, ylabel=r"residual of $\ln\,|M|^2$")
    axes.legend(fontsize=11)
    save(figure, directory, name)


def plot_predicted(results: Predictions, mean: float, std: float, directory: Path) -> None:
    """Plot predicted against true amplitudes."""
    true, predicted = (
        (values * std + mean).numpy() / np.log(10) for values in (results.target, results.predicted)
    )
    figure, axes = new_figure()
    low, high = true.min(), true.max()
    axes.hexbin(true, predicted.clip(low, high), gridsize=60, bins="log", mincnt=1, cmap="viridis")
    axes.plot([low, high], [low, high], ls=":", c="grey")
    axes.set(xlabel=r"true $\log_{10} |M|^2$", ylabel=r"predicted $\log_{10} |M|^2$")
    save(figure, directory, "predicted")


def plot_pulls(found: Tensor, directory: Path) -> None:
    """Plot the distribution of pulls over the normal one that calibrated uncertainties give."""
    values = found.numpy().clip(-_WIDEST_PULL, _WIDEST_PULL)
    figure, axes = new_figure()
    bins = np.linspace(-_WIDEST_PULL, _WIDEST_PULL, 61)
    axes.hist(values, bins=bins, density=True, histtype="step", lw=2, label="test events")
    axes.plot(bins, np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi), ls=":", c="grey", label="normal")
    axes.set(xlabel="pull: error over predicted uncertainty", ylabel="density")
    axes.legend()
    save(figure, directory, "pulls")
