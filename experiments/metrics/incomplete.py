"""Metrics of a sample without jets of some class."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from experiments.metrics.tagging import effective_number, mean_with_error


def incomplete_metrics(
    logits: Tensor, target: Tensor, weight: Tensor | None = None
) -> dict[str, float | None]:
    """Accuracy and loss, each with ``_error``; ``auc`` is None, because it needs every class.

    Parameters
    ----------
    logits
        ``(J,)`` for two classes, else ``(J, K)``.
    target
        ``(J,)`` labels.
    weight
        ``(J,)``, or None if all are one.
    """
    logits, target = logits.detach().double().cpu(), target.detach().long().cpu()
    if logits.dim() == 1:
        losses = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
        right = (logits > 0) == (target == 1)
    else:
        losses = F.cross_entropy(logits, target, reduction="none")
        right = logits.argmax(dim=1) == target
    weight = None if weight is None else weight.detach().cpu()
    jets = float(len(target)) if weight is None else effective_number(weight)
    accuracy, _ = mean_with_error(right, weight)
    loss, loss_error = mean_with_error(losses, weight)
    return {
        "accuracy": accuracy,
        "accuracy_error": math.sqrt(accuracy * (1 - accuracy) / jets),
        "auc": None,
        "auc_error": None,
        "loss": loss,
        "loss_error": loss_error if len(target) > 1 else 0.0,
    }
