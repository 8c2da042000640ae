"""Learning-rate schedules."""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from experiments.options.markers import Count, Limit, Range, Share

Factor = Annotated[float, Range(0, 1, above=True, below=True)]


def cosine_with_warmup(
    optimizer: Optimizer, total_steps: int, warmup_steps: Limit, final_fraction: Share
) -> LambdaLR:
    """Linear warmup from zero, then cosine decay.

    Parameters
    ----------
    optimizer
        Optimizer whose learning rate is scheduled.
    total_steps
        Length of the training (``trainer.max_steps``).
    warmup_steps
        Steps of the warmup; limited to a tenth of the training.
    final_fraction
        Last learning rate as a fraction of the maximum.

    Raises
    ------
    ValueError
        If the length of the training is not known.
    """
    if total_steps < 1:
        raise ValueError("a cosine schedule needs trainer.max_steps to be set")
    warmup = min(warmup_steps, total_steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def one_cycle(optimizer: Optimizer, total_steps: int, rising: Factor) -> OneCycleLR:
    """Rise to the learning rate of the optimizer, then fall to nearly zero (arXiv:1708.07120).

    Parameters
    ----------
    optimizer
        Optimizer whose learning rate is scheduled.
    total_steps
        Length of the training (``trainer.max_steps``).
    rising
        Share of the training in which it rises.
    """
    if total_steps < 1:
        raise ValueError("a one-cycle schedule needs trainer.max_steps to be set")
    highest = [float(group["lr"]) for group in optimizer.param_groups]
    return OneCycleLR(optimizer, highest, total_steps=total_steps + 1, pct_start=rising)


class Plateau(LRScheduler):
    """Linear warmup from zero; then the learning rate falls whenever validations stop improving.

    Unlike torch's own, it is stepped every training step as all schedules here are, and the task
    calls :meth:`observe` after each validation.

    Parameters
    ----------
    optimizer
        Optimizer whose learning rate is scheduled.
    total_steps
        Length of the training, of which the warmup is at most a tenth.
    factor
        What the learning rate is multiplied by.
    patience
        Validations without improvement until it falls.
    warmup_steps
        Steps of the warmup.
    least_fraction
        Smallest learning rate as a fraction of the first.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        factor: Factor,
        patience: Count,
        warmup_steps: Limit,
        least_fraction: Share,
    ) -> None:
        self.factor, self.patience, self.least_fraction = factor, patience, least_fraction
        self.warmup = min(warmup_steps, total_steps // 10) if total_steps > 0 else warmup_steps
        self.fraction, self.best, self.waited = 1.0, math.inf, 0
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Learning rates of the next step."""
        step = self.last_epoch  # torch's name for the number of steps
        risen = (step + 1) / (self.warmup + 1) if step < self.warmup else 1.0
        return [risen * self.fraction * rate for rate in self.base_lrs]

    def observe(self, value: float) -> None:
        """Take note of a validation; small values are good, NaN is no improvement."""
        if value < self.best:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.fraction = max(self.fraction * self.factor, self.least_fraction)
            self.waited = 0
