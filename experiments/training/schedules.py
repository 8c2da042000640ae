"""Learning-rate schedules."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from experiments.options.markers import Limit, Share


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
