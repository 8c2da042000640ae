"""A checkpoint to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Lightning's checkpoint every so many steps, and in any case after the last step.

    Without the latter, a training that is shorter than the interval, or no multiple of it, would
    leave its final weights nowhere. The last step may also be one in which the run is asked to
    end, by SIGTERM; several processes may learn of that in different steps, so they do not save.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        stopped = trainer.received_sigterm and trainer.world_size == 1
        last = trainer.global_step == trainer.max_steps or stopped
        if last and trainer.global_step % self._every_n_train_steps:
            assert self.dirpath is not None and self.filename is not None
            path = Path(self.dirpath) / f"{self.filename}.ckpt"
            trainer.save_checkpoint(path, weights_only=False)
