"""Metrics of a tagger of more than two classes.

Legend: J jets, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.metrics.tagging import (
    check_scores,
    effective_number,
    mean_with_error,
    rejection,
    rejection_error,
    roc,
)


def one_vs_one_auc(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> float:
    """Mean area under the ROC curve over all ordered pairs of classes (Hand and Till 2001).

    Jets of a are told from jets of b by the probability of a among all classes, as in
    scikit-learn's ``roc_auc_score(multi_class="ovo")``.
    """
    log_probabilities = logits.double().log_softmax(dim=1)
    areas = []
    for a, b in combinations(range(logits.shape[1]), 2):
        both = (target == a) | (target == b)
        of_both = None if weight is None else weight[both]
        for signal in (a, b):
            is_signal = (target[both] == signal).long()
            fpr, tpr = roc(log_probabilities[both, signal], is_signal, of_both)
            areas.append(float(torch.trapezoid(tpr, fpr)))
    return sum(areas) / len(areas)


def multiclass_metrics(
    logits: Tensor,
    target: Tensor,
    classes: Sequence[str],
    background: str | None = None,
    efficiencies: Mapping[str, float] | None = None,
    weight: Tensor | None = None,
) -> dict[str, float | None]:
    """Accuracy, mean AUC, loss, and rejections of the background, with ``_error``.

    Parameters
    ----------
    logits
        ``(J, K)`` scores before the softmax.
    target
        ``(J,)`` labels; every class must occur.
    classes
        Names of the classes.
    background
        Class that the others are discriminated from, by :math:`p_s / (p_s + p_b)`.
    efficiencies
        Signal efficiency of each class at which its rejection is quoted.
    weight
        ``(J,)``, or None if all are one.

    Raises
    ------
    ValueError
        If a class is absent, a logit is not finite, or there is no class of a given name.
    """
    logits, target = check_scores(logits, target, len(classes))
    efficiencies = efficiencies or {}
    unknown = {*efficiencies, *([] if background is None else [background])} - set(classes)
    if unknown:
        raise ValueError(
            f"no class {', '.join(sorted(unknown))}; the sample has {', '.join(classes)}"
        )
    weight = None if weight is None else weight.detach().cpu()
    each = torch.ones(len(target)) if weight is None else weight
    accuracy, _ = mean_with_error(logits.argmax(dim=1) == target, weight)
    losses = F.cross_entropy(logits, target, reduction="none")
    loss, loss_error = mean_with_error(losses, weight)
    values: dict[str, float | None] = {
        "accuracy": accuracy,
        "accuracy_error": math.sqrt(accuracy * (1 - accuracy) / effective_number(each)),
        "auc": one_vs_one_auc(logits, target, weight),
        "loss": loss,
        "loss_error": loss_error,
    }
    if background is None:
        return values
    other = classes.index(background)
    for name, efficiency in efficiencies.items():
        signal = classes.index(name)
        both = (target == signal) | (target == other)
        # Monotonic in the ratio of probabilities, without its rounding.
        scores = logits[both, signal] - logits[both, other]
        of_both = None if weight is None else weight[both]
        value = rejection(*roc(scores, (target[both] == signal).long(), of_both), efficiency)
        count, key = effective_number(each[target == other]), f"rejection_{name}_at_{efficiency:g}"
        finite = math.isfinite(value)
        values[key] = value if finite else None
        values[f"{key}_error"] = rejection_error(value, count) if finite else None
        if not finite:
            values[f"{key}_lower_limit_95"] = count / 3
    return values
