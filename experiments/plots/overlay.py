"""Several runs in one plot: ROC curves, and validations by step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from experiments.metrics.scores import Scores
from experiments.metrics.tagging import effective_number, roc
from experiments.plots.style import new_figure, plain, save
from experiments.plots.tagging import draw_roc
from experiments.saved_runs.curves import Curve


def plot_rocs(scores: Mapping[str, Scores], directory: Path) -> None:
    """Plot the rejections of runs on the same classes of jets, two of them, with their errors.

    Parameters
    ----------
    scores
        Of the tests, by the name of the run.
    directory
        Of the plots.
    """
    figure, axes = new_figure()
    for name, found in scores.items():
        background = found.where(found.target == 0)
        weight = torch.ones(len(background.target))
        weight = weight if background.weight is None else background.weight
        fpr, tpr = roc(found.logits, found.target, found.weight)
        draw_roc(axes, fpr, tpr, effective_number(weight), plain(name))
    axes.set(
        xlabel=r"signal efficiency $\epsilon_S$", ylabel=r"background rejection $1/\epsilon_B$",
        yscale="log", xlim=(0, 1),
    )  # fmt: skip
    axes.legend(fontsize=10)
    save(figure, directory, "roc")


def plot_validations(
    curves: Mapping[str, Curve], label: str, logarithmic: bool, directory: Path
) -> None:
    """Plot a figure of validations of runs by step."""
    figure, axes = new_figure()
    for name, curve in curves.items():
        axes.plot(list(curve), list(curve.values()), "o-", ms=3, label=plain(name))
    axes.set(xlabel="step", ylabel=label, yscale="log" if logarithmic else "linear")
    axes.legend(fontsize=10)
    save(figure, directory, "validations")
