"""The progress bar."""

from __future__ import annotations

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

SHOWN = ("loss", "jets/s")
"""Metrics of steps. Lightning would read those with ``prog_bar=True`` in each of them."""


class StepProgressBar(RichProgressBar):
    """Rich progress bar of trainings that are counted in steps.

    It shows what it knows ``refresh_rate`` times a second and not in each step, because reading the
    loss waits for the GPU.
    """

    _shown = float("-inf")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step, unless the last one was shown just now."""
        if self.is_disabled:
            return
        last = trainer.global_step == trainer.max_steps
        if last or time.monotonic() - self._shown >= 1 / self.refresh_rate:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            self._shown = time.monotonic()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What is shown: beside metrics of validation, those of the step."""
        found = {name: trainer.callback_metrics.get(name) for name in SHOWN}
        steps = {name: float(value) for name, value in found.items() if value is not None}
        return {**super().get_metrics(trainer, pl_module), **steps}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Pass {current_epoch + 1} of {self.trainer.max_steps} steps in all"
