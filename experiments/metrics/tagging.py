"""Metrics of a binary tagger, with statistical errors.

Legend: J jets, of which S signal and N background. Where jets have weights, numbers of jets in
errors are effective ones, (sum w)^2 / sum w^2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_roc

SIGNAL_EFFICIENCIES = (0.5, 0.3)


def rejection(fpr: Tensor, tpr: Tensor, efficiency: float) -> float:
    """Background rejection 1/eps_B at a signal efficiency, on the interpolated ROC curve.

    Jets with equal scores pass together, so the curve is linear between distinct scores. Infinite
    if no background passes.
    """
    index = int(torch.searchsorted(tpr, efficiency))
    low = max(index - 1, 0)
    rise = float(tpr[index] - tpr[low])
    share = (efficiency - float(tpr[low])) / rise if rise > 0 else 0.0
    background = float(fpr[low]) + share * float(fpr[index] - fpr[low])
    return 1 / background if background > 0 else math.inf


def rejection_error(value: float, num_background: float) -> float:
    """Binomial error of a rejection measured on ``num_background`` jets."""
    passed = 1 / value
    return value * math.sqrt((1 - passed) / (passed * num_background))


def auc_error(auc: float, num_signal: float, num_background: float) -> float:
    """Error of the area under the ROC curve (Hanley and McNeil 1982, equation 2)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc) + (num_signal - 1) * (q1 - auc**2) + (num_background - 1) * (q2 - auc**2)
    ) / (num_signal * num_background)
    return math.sqrt(max(variance, 0.0))


def effective_number(weight: Tensor) -> float:
    """How many jets of equal weights have the statistical error of these."""
    squares = float(weight.double().square().sum())
    return float(weight.double().sum()) ** 2 / squares if squares else 0.0


def roc(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """False and true positive rates at every distinct score, rising, float64.

    Parameters
    ----------
    logits, target, weight
        ``(J,)`` each; without weights, all are one.
    """
    if weight is not None:
        return _weighted_roc(logits, target, weight)
    # Logits, because a sigmoid in float32 maps distinct large logits to the same value; as ranks in
    # [0, 1], because binary_roc applies a sigmoid to anything else.
    ranks = torch.unique(logits.float(), return_inverse=True)[1].double()
    ranks = ranks / max(float(ranks.max()), 1.0)
    fpr, tpr, _ = binary_roc(ranks, target)
    return fpr.double(), tpr.double()


def _weighted_roc(logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    values, place = torch.unique(logits.float(), return_inverse=True)
    rates = []
    for label in (0, 1):
        of_class = torch.where(target == label, weight.double(), 0.0)
        sums = torch.zeros(len(values), dtype=torch.float64).index_add(0, place, of_class)
        passed = sums.flip(0).cumsum(0)
        rates.append(torch.cat([passed.new_zeros(1), passed / passed[-1]]))
    return rates[0], rates[1]


def check_scores(logits: Tensor, target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Check scores; returns logits as float32 and labels as int64, both on the CPU.

    Raises
    ------
    ValueError
        If a class is absent, or a logit is not finite.
    """
    logits, target = logits.detach().float().cpu(), target.detach().long().cpu()
    if not torch.isfinite(logits).all():
        raise ValueError("the network's output is not finite; lower the learning rate")
    counts = torch.bincount(target, minlength=classes).tolist()
    if not all(counts):
        raise ValueError(f"need jets of every class, got {counts} by label")
    return logits, target


def mean_with_error(values: Tensor, weight: Tensor | None) -> tuple[float, float]:
    """Mean of values of jets, ``(J,)``, and its statistical error."""
    values = values.double()
    if weight is None:
        return float(values.mean()), float(values.std()) / math.sqrt(len(values))
    share = weight.double() / weight.double().sum()
    mean = float((share * values).sum())
    return mean, math.sqrt(float((share * (values - mean)).square().sum()))


def tagging_metrics(
    logits: Tensor, target: Tensor, weight: Tensor | None = None
) -> dict[str, float | None]:
    """Accuracy, AUC, rejections and loss, each with ``_error`` (one standard deviation).

    Parameters
    ----------
    logits
        ``(J,)`` scores before the sigmoid.
    target
        ``(J,)`` labels 0 or 1; both must occur.
    weight
        ``(J,)``, or None if all are one.

    Returns
    -------
    A rejection without passing background is None and has ``_lower_limit_95`` instead (Poisson: an
    expectation above 3 is excluded if no event passes).

    Raises
    ------
    ValueError
        If only one class is present, or a logit is not finite.
    """
    logits, target = check_scores(logits, target, 2)
    each = torch.ones_like(logits) if weight is None else weight.detach().cpu()
    jets, background, signal = (
        effective_number(each[chosen]) for chosen in (target >= 0, target == 0, target == 1)
    )
    losses = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    accuracy, _ = mean_with_error((logits > 0) == (target == 1), weight)
    loss, loss_error = mean_with_error(losses, weight)
    fpr, tpr = roc(logits, target, weight)
    auc = float(torch.trapezoid(tpr, fpr))
    values: dict[str, float | None] = {
        "accuracy": accuracy,
        "accuracy_error": math.sqrt(accuracy * (1 - accuracy) / jets),
        "auc": auc,
        "auc_error": auc_error(auc, signal, background),
        "loss": loss,
        "loss_error": loss_error,
    }
    for efficiency in SIGNAL_EFFICIENCIES:
        name, value = f"rejection_at_{efficiency}", rejection(fpr, tpr, efficiency)
        finite = math.isfinite(value)
        values[name] = value if finite else None
        values[f"{name}_error"] = rejection_error(value, background) if finite else None
        if not finite:
            values[f"{name}_lower_limit_95"] = background / 3
    return values
