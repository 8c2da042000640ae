"""Plots of training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.plots.style import new_figure, save, save_as
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
