"""Average weights over training without waiting for the device."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor

from experiments.options.markers import KeywordsOf, Share

Pair = tuple[list[Tensor], list[Tensor]]
"""Averages, and the values that they are of."""


class WeightAverage(EMAWeightAveraging):
    """Exponential moving average of weights and buffers, where the weights are.

    The numbers and checkpoints of Lightning's callback of a similar name. That one is built before
    the model is moved, so that its average stays on the CPU, to which it copies each weight in each
    step; and it asks the device whether an average has begun.

    Parameters
    ----------
    decay
        Factor of the average in each step.
    options
        Further options of Lightning's callback.
    """

    def __init__(
        self,
        decay: Share = 0.999,
        **options: Annotated[Any, KeywordsOf("lightning.pytorch.callbacks.EMAWeightAveraging")],
    ) -> None:
        super().__init__(decay=decay, **options)
        self.decay = decay
        self._pairs: list[Pair] = []
        self._buffers: list[Pair] = []

    @property
    def state_key(self) -> str:
        """The name in checkpoints, that of Lightning's callback."""
        return EMAWeightAveraging.__qualname__

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the device of the training, unless another was asked for."""
        super().on_train_start(trainer, pl_module)
        average = self._average_model
        if average is None:
            return
        if self._device is None:
            average.to(pl_module.device)
        weights = zip(average.module.parameters(), pl_module.parameters(), strict=True)
        buffers = list(zip(average.module.buffers(), pl_module.buffers(), strict=True))
        averaged = [*weights, *(buffers if self._use_buffers else ())]
        self._pairs = _grouped(averaged)
        self._buffers = _grouped([] if self._use_buffers else buffers)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights to the average if an optimizer step was taken."""
        average, step = self._average_model, trainer.global_step
        if average is None or not self._latest_update_step or not self._pairs:
            # The first time, where the average is a copy; or where it is on another device.
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        elif step > self._latest_update_step and self.should_update(step_idx=step - 1):
            blend(self._pairs, self.decay)
            for averages, current in self._buffers:
                torch._foreach_copy_(averages, current)
            average.n_averaged += 1
            self._latest_update_step = step


def _grouped(tensors: list[tuple[Tensor, Tensor]]) -> list[Pair]:
    """Averages and values by type; none unless each average is where its value is."""
    groups: dict[torch.dtype, Pair] = {}
    for average, value in tensors:
        if average.device != value.device:
            return []
        averages, values = groups.setdefault(average.dtype, ([], []))
        averages.append(average.detach())
        values.append(value.detach())
    return list(groups.values())


@torch.no_grad()
def blend(pairs: list[Pair], decay: float) -> None:
    """``decay * average + (1 - decay) * value`` in place, rounded as it stands here."""
    for averages, values in pairs:
        if averages[0].is_floating_point():
            torch._foreach_mul_(averages, decay)
            torch._foreach_add_(averages, torch._foreach_mul(values, 1 - decay))
        else:  # counters
            for average, value in zip(averages, values, strict=True):
                average.copy_(decay * average + (1 - decay) * value)
