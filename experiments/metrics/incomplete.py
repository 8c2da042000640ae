"""Metrics of a sample without jets of some class."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F


def incomplete_metrics(logits: Tensor, target: Tensor) -> dict[str, float | None]:
    """Accuracy and loss, each with ``_error``; ``auc`` is None, because it needs every class.

    Parameters
    ----------
    logits
        ``(J,)`` for two classes, else ``(J, K)``.
    target
        ``(J,)`` labels.
    """
    logits, target = logits.detach().double().cpu(), target.detach().long().cpu()
    if logits.dim() == 1:
        losses = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
        right = (logits > 0) == (target == 1)
    else:
        losses = F.cross_entropy(logits, target, reduction="none")
        right = logits.argmax(dim=1) == target
    jets, accuracy = len(target), float(right.double().mean())
    return {
        "accuracy": accuracy,
        "accuracy_error": math.sqrt(accuracy * (1 - accuracy) / jets),
        "auc": None,
        "auc_error": None,
        "loss": float(losses.mean()),
        "loss_error": float(losses.std(correction=int(jets > 1))) / math.sqrt(jets),
    }
