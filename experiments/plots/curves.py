"""Plots of training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.plots.style import COLOURS, new_figure, save, save_as
from experiments.saved_runs.curves import Curve


def plot_loss(curves: dict[str, Curve], directory: Path) -> None:
    """Plot training and validation loss, if there are any."""
    if not {"loss", "val/loss"} & curves.keys():
        return
    figure, axes = new_figure()
    for name, label, style in (("loss", "training", "-"), ("val/loss", "validation", "o-")):
        if name in curves:
            axes.plot(list(curves[name]), list(curves[name].values()), style, ms=4, label=label)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend()
    save(figure, directory, "loss")


def plot_learning_rate(curves: dict[str, Curve], directory: Path) -> None:
    """Plot the learning-rate schedule."""
    figure, axes = new_figure()
    for name, curve in curves.items():
        if name.startswith("lr-"):
            axes.plot(list(curve), list(curve.values()))
    axes.set(xlabel="step", ylabel="learning rate")
    save(figure, directory, "learning_rate")


def plot_learning(
    curves: Mapping[str, Sequence[Mapping[Any, float]]],
    horizontal: str,
    label: str,
    logarithmic: bool,
    span: float | None,
    file: Path,
) -> None:
    """Plot a validation metric by step or time: one colour per network, one line per seed.

    Parameters
    ----------
    curves
        Curves of all seeds, by network.
    horizontal, label
        Labels of the axes.
    logarithmic
        Whether the vertical axis is.
    span
        How far below the largest value it reaches; None for all values.
    file
        Image to write; its suffix chooses the format.
    """
    figure, axes = new_figure()
    best = max((max(c.values()) for seeds in curves.values() for c in seeds if c), default=1.0)
    for number, (name, seeds) in enumerate(curves.items()):
        for turn, curve in enumerate(seeds):
            steps, values = list(curve), list(curve.values())
            axes.plot(steps, values, color=f"C{number}", label=None if turn else name)
    axes.set(xlabel=horizontal, ylabel=label)
    if logarithmic:
        axes.set_yscale("log")
    if span is not None:  # early validations would hide the differences between networks
        axes.set_ylim(best - span, best + span / 12)
    axes.legend(fontsize=12)
    save_as(figure, file)


_SMOOTHED = 50
"""Points of the loss of steps that are averaged, of those that are logged."""


def plot_learning_of_run(
    curves: Mapping[str, Curve], name: str, label: str, directory: Path
) -> None:
    """Plot the loss of training, smoothed, and of validations; below, the task's own figure.

    Parameters
    ----------
    curves
        Of a run, by name.
    name, label
        Of the figure among ``curves``, and for its axis.
    directory
        Of the plots.
    """
    if not curves.get("loss") and not curves.get("val/loss"):
        return
    figure, (above, below) = new_figure(nrows=2, sharex=True)
    if curves.get("loss"):
        steps, values = list(curves["loss"]), list(curves["loss"].values())
        above.plot(steps, values, lw=0.5, alpha=0.4, c=COLOURS[0])
        above.plot(steps, _smooth(values), c=COLOURS[0], label="training")
    if curves.get("val/loss"):
        above.plot(
            list(curves["val/loss"]), list(curves["val/loss"].values()), "o-", ms=4, c=COLOURS[1],
            label="validation",
        )  # fmt: skip
    above.set(ylabel="loss", yscale="log")
    above.legend(fontsize=11)
    if curves.get(name):
        below.plot(list(curves[name]), list(curves[name].values()), "o-", ms=4, c=COLOURS[1])
    below.set(xlabel="step", ylabel=label)
    save(figure, directory, "learning")


def _smooth(values: Sequence[float]) -> list[float]:
    """Averages over the last points."""
    found = []
    for end in range(1, len(values) + 1):
        part = values[max(end - _SMOOTHED, 0) : end]
        found.append(sum(part) / len(part))
    return found
