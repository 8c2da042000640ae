"""Plots of generated events over those of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.events.final_state import FinalState, FloatArray
from experiments.metrics.event_observables import Resonances, observables
from experiments.metrics.generated import Generated
from experiments.plots.style import new_figure, new_panels, save

_BINS = 40
_RATIO = 0.5
_COLUMNS = 3
_WEIGHTS = 1e-2, 1e2
_GROUPS = {
    "pt": "transverse_momenta", "eta": "pseudorapidities", "phi": "azimuths", "mass": "masses",
    "delta_r": "distances",
}  # fmt: skip
"""Files, by what names of observables begin with."""
MOST_PANELS = 12

Pair = tuple[FloatArray, FloatArray, str]
"""Values of the data and of generated events, and the label of the axis."""


def plot_all(
    results: Generated,
    state: FinalState,
    resonances: Resonances,
    directory: Path,
    most_panels: int = MOST_PANELS,
) -> None:
    """Draw every observable: transverse momenta, angles, masses, distances, resonances.

    Parameters
    ----------
    results
        Events.
    state, resonances
        See :func:`.generation_metrics`.
    directory
        Directory of the plots.
    most_panels
        Of each figure; further observables are left out.
    """
    truth = observables(results.truth.numpy(), state, resonances)
    made = observables(results.made.numpy(), state, resonances)
    decayed = {f"{kind}_{name}" for kind in ("pt", "mass") for name in resonances}
    groups: dict[str, dict[str, Pair]] = {}
    for name, (values, label) in truth.items():
        file = "resonances" if name in decayed else _file_of(name)
        groups.setdefault(file, {})[name] = values, made[name][0], label
    for file, pairs in groups.items():
        plot_panels(dict(list(pairs.items())[:most_panels]), file, directory)


def _file_of(name: str) -> str:
    return next(file for start, file in _GROUPS.items() if name.startswith(f"{start}_"))


def plot_panels(pairs: Mapping[str, Pair], name: str, directory: Path) -> None:
    """Plot several observables in one figure, each with a ratio below.

    Parameters
    ----------
    pairs
        Observables by name.
    name
        Of the file.
    directory
        Directory of the plot.
    """
    columns = min(_COLUMNS, len(pairs))
    figure, panels = new_panels(columns, math.ceil(len(pairs) / columns))
    for place, (above, below) in enumerate(panels):
        if place < len(pairs):
            _draw(list(pairs.values())[place], above, below)
        else:
            above.axis("off")
            below.axis("off")
    panels[0][0].legend(fontsize=12)
    save(figure, directory, name)


def _draw(pair: Pair, above: Any, below: Any) -> None:
    """Two distributions with statistical errors, and their ratio."""
    truth, made, label = pair
    low, high = np.quantile(truth, (0.005, 0.995))
    edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
    width, centres = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    heights, errors = [], []
    for values in (truth, made):
        counts, _ = np.histogram(values, edges)
        norm = width * max(len(values), 1)
        heights.append(counts / norm)
        errors.append(np.sqrt(counts) / norm)
    for height, error, kind in zip(heights, errors, ("data", "generated"), strict=True):
        above.stairs(height, edges, label=kind, lw=2)
        above.fill_between(centres, height - error, height + error, step="mid", alpha=0.25, lw=0)
    there = heights[0] > 0
    scale = np.where(there, heights[0], 1.0)
    ratio = np.where(there, heights[1] / scale, np.nan)
    of_truth, of_made = (np.where(there, error / scale, np.nan) for error in errors)
    below.fill_between(centres, 1 - of_truth, 1 + of_truth, step="mid", alpha=0.25, lw=0)
    below.errorbar(centres, ratio, of_made, fmt=".", c="C1")
    below.axhline(1, ls=":", c="grey")
    limits = edges[0], edges[-1]
    above.set(ylabel="density", ylim=(0, None), xlim=limits, xticklabels=[])
    below.set(xlabel=label, ylabel="ratio", ylim=(1 - _RATIO, 1 + _RATIO), xlim=limits)


def plot_weights(of_data: FloatArray, of_generated: FloatArray, directory: Path) -> None:
    """Plot the weights that a classifier gives, which are all 1 for a perfect generator.

    Tails to the right are of regions that the generator leaves too empty, tails to the left of
    those that it fills too much (arXiv:2305.16774).
    """
    figure, axes = new_figure()
    bins = np.geomspace(*_WEIGHTS, 81)
    for weights, label in ((of_data, "data"), (of_generated, "generated")):
        axes.hist(weights.clip(*_WEIGHTS), bins=bins, histtype="step", lw=2, label=label)
    axes.axvline(1, ls=":", c="grey")
    axes.set(
        xlabel="weight p(data) / p(generated)", ylabel="events", xscale="log", yscale="log"
    )  # fmt: skip
    axes.legend()
    save(figure, directory, "classifier_weights")
