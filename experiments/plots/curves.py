"""Plots of training curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    axes.set(xlabel="step", ylabel="cross entropy", yscale="log")
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


def plot_learning(curves: Mapping[str, list[Curve]], label: str, file: Path) -> None:
    """Plot a validation metric by step: one colour per network, one line per seed.

    Parameters
    ----------
    curves
        Curves of all seeds, by network.
    label
        Label of the vertical axis.
    file
        Image to write; its suffix chooses the format.
    """
    figure, axes = new_figure()
    best = max((max(c.values()) for seeds in curves.values() for c in seeds if c), default=1.0)
    for number, (name, seeds) in enumerate(curves.items()):
        for turn, curve in enumerate(seeds):
            steps, values = list(curve), list(curve.values())
            axes.plot(steps, values, color=f"C{number}", label=None if turn else name)
    # Early validations would hide the differences between networks.
    axes.set(xlabel="step", ylabel=label, ylim=(best - 0.025, best + 0.002))
    axes.legend(fontsize=12)
    save_as(figure, file)
