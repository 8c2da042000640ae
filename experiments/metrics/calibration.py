"""Calibration of probabilities.

Legend: J jets, K bins.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reliability(
    probability: Tensor, correct: Tensor, bins: int = 15, weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean predicted and observed frequency, and sum of weights, by bin of probability: ``(K,)``.

    Parameters
    ----------
    probability
        ``(J,)`` predicted probability of an outcome.
    correct
        ``(J,)`` whether it occurred.
    bins
        Number K of bins of equal width.
    weight
        ``(J,)``, or None if all are one.
    """
    probability, correct = probability.double(), correct.double()
    each = torch.ones_like(probability) if weight is None else weight.double().cpu()
    index = (probability * bins).long().clamp(0, bins - 1)
    count = torch.bincount(index, each, bins)
    safe = torch.where(count == 0, 1.0, count)
    predicted = torch.bincount(index, probability * each, bins) / safe
    observed = torch.bincount(index, correct * each, bins) / safe
    return predicted, observed, count


def expected_calibration_error(
    probability: Tensor, correct: Tensor, bins: int = 15, weight: Tensor | None = None
) -> float:
    """Mean distance of predicted and observed frequency, weighted by jets (arXiv:1706.04599)."""
    predicted, observed, count = reliability(probability, correct, bins, weight)
    return float(((predicted - observed).abs() * count).sum() / count.sum())
