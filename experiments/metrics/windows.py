"""Metrics of jets in windows of transverse momentum and mass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.errors import UserError
from experiments.metrics.scores import Scores

QUANTITIES = ("pt", "mass")
"""In GeV, of all particles of a jet together."""
_KEPT = ("auc", "accuracy", "rejection")


def check_windows(windows: Mapping[str, Sequence[float]]) -> None:
    """Check edges of windows by quantity.

    Raises
    ------
    UserError
        If a quantity is unknown, or edges do not rise.
    """
    for name, edges in windows.items():
        if name not in QUANTITIES:
            raise UserError(f"task.windows.{name}: must be one of {', '.join(QUANTITIES)}")
        if len(edges) < 2 or any(b <= a for a, b in itertools.pairwise(edges)):
            raise UserError(
                f"task.windows.{name}: two or more edges that rise are wanted, not {list(edges)}"
            )


def in_windows(scores: Scores, windows: Mapping[str, Sequence[float]]) -> dict[str, Tensor]:
    """Numbers of the jets in each window, by its name, such as ``pt_500_550``."""
    found = {}
    for quantity, edges in windows.items():
        values: Tensor = getattr(scores, quantity)
        for low, high in itertools.pairwise(edges):
            chosen = (values >= low) & (values < high)
            found[f"{quantity}_{low:g}_{high:g}"] = torch.nonzero(chosen).flatten()
    return found


def window_metrics(
    scores: Scores,
    windows: Mapping[str, Sequence[float]],
    metrics: Callable[[Scores], Mapping[str, Any]],
) -> dict[str, Any]:
    """AUC, accuracy, rejections and the number of jets in each window, as ``NAME_pt_500_550``.

    Parameters
    ----------
    scores
        Scores of a whole sample.
    windows
        Edges by quantity; see :data:`QUANTITIES`.
    metrics
        Metrics of a sample, None where they are undefined.
    """
    found: dict[str, Any] = {}
    for name, jets in in_windows(scores, windows).items():
        found[f"jets_{name}"] = len(jets)
        of_window = metrics(scores.where(jets)) if len(jets) else {}
        for metric, value in of_window.items():
            if metric.startswith(_KEPT):
                kind, error = metric.removesuffix("_error"), metric.endswith("_error")
                found[f"{kind}_{name}" + ("_error" if error else "")] = value
    return found
