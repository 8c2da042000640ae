"""Training curves from the CSV logs."""

from __future__ import annotations

import csv
from pathlib import Path

from experiments.plots.style import new_figure, save

Curve = dict[int, float]


def read_curves(logs: Path) -> dict[str, Curve]:
    """Every logged quantity by step, from all parts of a run (each resumption adds one).

    A run that goes on rewrites its log; rows that are not yet whole are left out.
    """
    curves: dict[str, Curve] = {}
    parts = sorted(logs.glob("version_*/metrics.csv"), key=lambda p: int(p.parent.name[8:]))
    for part in parts:
        with open(part, newline="") as handle:
            for row in csv.DictReader(handle):
                step_text = row.pop("step", None)
                if not step_text or None in row or None in row.values():
                    continue
                step = int(step_text)
                for name, value in row.items():
                    if value:
                        curves.setdefault(name, {})[step] = float(value)
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def plot_loss(curves: dict[str, Curve], directory: Path) -> None:
    """Training and validation loss, if there were steps."""
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
    """The learning-rate schedule."""
    figure, axes = new_figure()
    for name, curve in curves.items():
        if name.startswith("lr-"):
            axes.plot(list(curve), list(curve.values()))
    axes.set(xlabel="step", ylabel="learning rate")
    save(figure, directory, "learning_rate")
