"""Calibration of probabilities.

Legend: J jets, K bins.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reliability(
    probability: Tensor, correct: Tensor, bins: int = 15
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean predicted and observed frequency, and number of jets, by bin of probability: ``(K,)``.

    Parameters
    ----------
    probability
        ``(J,)`` predicted probability of an outcome.
    correct
        ``(J,)`` whether it occurred.
    bins
        Number K of bins of equal width.
    """
    probability, correct = probability.double(), correct.double()
    index = (probability * bins).long().clamp(0, bins - 1)
    count = torch.bincount(index, minlength=bins).double()
    safe = count.clamp(min=1)
    predicted = torch.bincount(index, probability, bins) / safe
    observed = torch.bincount(index, correct, bins) / safe
    return predicted, observed, count


def expected_calibration_error(probability: Tensor, correct: Tensor, bins: int = 15) -> float:
    """Mean distance of predicted and observed frequency, weighted by jets (arXiv:1706.04599)."""
    predicted, observed, count = reliability(probability, correct, bins)
    return float(((predicted - observed).abs() * count).sum() / count.sum())
