"""Training a binary classifier of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments.batch import EventBatch
from experiments.errors import UserError
from experiments.metrics.tagging import tagging_metrics

CHECK_EVERY = 50  # steps


class BinaryClassification(lightning.LightningModule):
    """Cross entropy on logits, metrics on whole validation and test sets.

    Parameters
    ----------
    model
        Maps an :class:`EventBatch` to logits ``(B, 1)``.
    optimizer
        Makes an optimizer of parameters.
    scheduler
        Makes a learning-rate schedule of an optimizer and ``total_steps``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
    ) -> None:
        super().__init__()
        self.model = model
        self._optimizer, self._scheduler = optimizer, scheduler
        self._scores: list[tuple[Tensor, Tensor]] = []
        self.test_scores: tuple[Tensor, Tensor] | None = None
        self.test_metrics: dict[str, float | None] = {}

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B,)``."""
        logits: Tensor = self.model(batch).squeeze(-1)
        return logits

    def training_step(self, batch: EventBatch, batch_idx: int) -> Tensor:
        """Mean cross entropy of a batch."""
        logits = self(batch)
        loss = F.binary_cross_entropy_with_logits(logits, batch.target.to(logits.dtype))
        self.log("loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: EventBatch, batch_idx: int) -> None:
        """Stop when training has diverged, rather than test a broken network."""
        # Not at every step: on a GPU each look waits for the device.
        if self.global_step % CHECK_EVERY == 0 and not torch.isfinite(outputs["loss"]):
            raise UserError(
                f"the loss is {float(outputs['loss'])} at step {self.global_step}; "
                "lower optimizer.lr or trainer.gradient_clip_val"
            )

    def _collect(self, batch: EventBatch) -> None:
        self._scores.append((self(batch).float(), batch.target))

    def _gathered(self) -> tuple[Tensor, Tensor, dict[str, float | None]]:
        """Collected logits and labels, and their metrics."""
        logits, target = (torch.cat(x).cpu() for x in zip(*self._scores, strict=True))
        self._scores.clear()
        try:
            return logits, target, tagging_metrics(logits, target)
        except ValueError as error:
            raise UserError(str(error)) from error

    def validation_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Collect scores."""
        self._collect(batch)

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole validation set."""
        *_, metrics = self._gathered()
        shown = {f"val/{k}": v for k, v in metrics.items() if v is not None and "_" not in k}
        self.log_dict(shown)
        self.log("val_auc", float(metrics["auc"] or 0.0), prog_bar=True, logger=False)

    def test_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Collect scores."""
        self._collect(batch)

    def on_test_epoch_end(self) -> None:
        """Metrics of the whole test set, kept for the report."""
        logits, target, self.test_metrics = self._gathered()
        self.test_scores = (logits, target)

    def configure_optimizers(self) -> Any:
        """One optimizer, one schedule stepped every training step."""
        optimizer = self._optimizer(self.parameters())
        scheduler = self._scheduler(optimizer, total_steps=self.trainer.max_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
