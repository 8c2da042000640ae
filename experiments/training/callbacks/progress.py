"""The progress bar."""

from __future__ import annotations

from lightning.pytorch.callbacks import RichProgressBar


class StepProgressBar(RichProgressBar):
    """Rich progress bar of trainings that are counted in steps."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Pass {current_epoch + 1} of {self.trainer.max_steps} steps in all"
