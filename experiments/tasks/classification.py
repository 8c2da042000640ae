"""The task of classifying events."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.metrics.score_metrics import score_metrics
from experiments.metrics.scores import Scores
from experiments.options.markers import Limit, Range, Text
from experiments.tasks.recorded_steps import GraphedForward, check_recordable, default_step

CHECK_EVERY = 50  # steps
VALIDATION_METRICS = ("accuracy", "auc", "loss")
"""Of :func:`.score_metrics`: computed, logged and shown after each validation."""


def _number(metric: float | None) -> float:
    """A metric as callbacks take it: NaN where it is not defined."""
    return math.nan if metric is None else float(metric)


Efficiency = Annotated[float, Range(0, 1, above=True, below=True)]


class Classification(lightning.LightningModule):
    """Train a classifier by cross entropy; metrics are those of whole samples.

    Parameters
    ----------
    spec
        Specification of the data set.
    model
        Maps an :class:`EventBatch` to logits ``(B, outputs)``: one for two classes, else one for
        each. If it has a method ``fit(batches)``, it is trained by one call of that.
    optimizer
        Makes an optimizer of parameters.
    scheduler
        Makes a learning-rate schedule of an optimizer and ``total_steps``.
    background, efficiencies
        For more than two classes: see :func:`~experiments.metrics.multiclass.multiclass_metrics`.
    graph_step
        On a GPU, training steps are recorded as CUDA graphs, for batches padded to multiples of
        this many particles (:mod:`experiments.tasks.recorded_steps`); 0 records nothing, and None
        chooses by :func:`~experiments.tasks.recorded_steps.default_step`.
    """

    logged = (
        *(f"val/{name}" for name in VALIDATION_METRICS),
        *("val_auc", "loss", "loss_step", "loss_epoch"),
    )
    """Metrics that callbacks can monitor."""

    def __init__(
        self,
        spec: DataSpec,
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        background: Text | None = None,
        efficiencies: Mapping[str, Efficiency] | None = None,
        graph_step: Limit | None = None,
    ) -> None:
        super().__init__()
        self.graph_step = graph_step
        self._graphed: GraphedForward | None = None
        self.spec = spec
        self.model: Any = model
        self._optimizer, self._scheduler = optimizer, scheduler
        self.background, self.efficiencies = background, dict(efficiencies or {})
        named = {*self.efficiencies, *([] if background is None else [background])}
        if unknown := sorted(named - set(spec.classes)):
            raise ValueError(
                f"no class {', '.join(unknown)}; the sample has {', '.join(spec.classes)}"
            )
        self._parts: list[Scores] = []
        self.test_scores: Scores | None = None
        self.test_metrics: dict[str, Any] = {}

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B,)`` for two classes, else ``(B, K)``."""
        return self._squeezed(self.model(batch))

    def _squeezed(self, logits: Tensor) -> Tensor:
        return logits.squeeze(-1) if self.spec.num_outputs == 1 else logits

    def on_train_start(self) -> None:
        """Train a model with ``fit``, or prepare the recording of steps."""
        if hasattr(self.model, "fit"):
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            self.model.fit(data.train_pass())
            self.trainer.should_stop = True
        elif self.device.type == "cuda":
            self._record_steps()
        elif self.graph_step:
            why = "task.graph_step: no GPU here, so training steps are not recorded"
            warnings.warn(why, stacklevel=2)

    def _record_steps(self) -> None:
        trainer = self.trainer
        how = trainer.accumulate_grad_batches, trainer.world_size, str(trainer.precision)
        step = self.graph_step
        if step is None:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            step = default_step(self.model, data, *how)
        if step:
            check_recordable(*how)
            self._graphed = GraphedForward(self.model, step)

    def training_step(self, batch: EventBatch, batch_idx: int) -> Tensor | None:
        """Mean cross entropy of a batch."""
        if hasattr(self.model, "fit"):
            return None
        logits = self(batch) if self._graphed is None else self._squeezed(self._graphed(batch))
        loss = self.loss_of(logits, batch)
        # Not for the progress bar, for which Lightning would read it in every step.
        self.log("loss", loss, batch_size=len(batch))
        return loss

    def loss_of(self, logits: Tensor, batch: EventBatch) -> Tensor:
        """Mean cross entropy of the logits of a batch."""
        if self.spec.num_outputs == 1:
            return F.binary_cross_entropy_with_logits(logits, batch.target.to(logits.dtype))
        return F.cross_entropy(logits, batch.target)

    def checked(self, output: Any, batch: EventBatch) -> Tensor:
        """Check the shape of what a model returned; returns logits as :meth:`forward`.

        Raises
        ------
        UserError
            If it is not a tensor ``(B, outputs)``.
        """
        wanted = (len(batch), self.spec.num_outputs)
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if shape != wanted:
            raise UserError(f"the model must return logits of shape {wanted}, not {shape}")
        return self._squeezed(output)

    def on_train_batch_end(self, outputs: Any, batch: EventBatch, batch_idx: int) -> None:
        """Stop when training has diverged."""
        # Not at every step, because reading the loss synchronises with the GPU.
        if not outputs:
            return
        if self.global_step % CHECK_EVERY == 0 and not torch.isfinite(outputs["loss"]):
            raise UserError(
                f"the loss is {float(outputs['loss'])} at step {self.global_step}; "
                "lower optimizer.lr or trainer.gradient_clip_val"
            )

    def _joined(self) -> Scores:
        """Scores of all jets since the last call, over all processes."""
        scores = Scores.joined(self._parts).of_all_processes()
        self._parts.clear()
        return scores

    def metrics_of(self, scores: Scores, allow_absent: bool = False) -> dict[str, Any]:
        """Metrics of a whole sample, by :func:`.score_metrics`."""
        return score_metrics(
            scores, self.spec.classes, self.background, self.efficiencies, allow_absent
        )

    def validation_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Collect scores, in full precision also in mixed-precision training.

        Scores rounded to eight bits have ties, which makes rejections at low efficiency wrong.
        """
        with torch.autocast(self.device.type, enabled=False):
            logits = self(batch)
        self._parts.append(Scores.of(logits, batch))

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole validation set."""
        metrics = self.metrics_of(self._joined())
        values = {name: _number(metrics[name]) for name in VALIDATION_METRICS}
        self.log_dict({f"val/{name}": value for name, value in values.items()})
        self.log("val_auc", values["auc"], prog_bar=True, logger=False)

    def test_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Collect scores."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Metrics of the whole test set, kept for the report."""
        self.test_scores = self._joined()
        self.test_metrics = self.metrics_of(self.test_scores, allow_absent=True)

    def make_optimizer(self) -> Optimizer:
        """Make the optimizer, with the model's parameter groups if it has any.

        Raises
        ------
        UserError
            If its library rejects a value.
        """
        parameters = getattr(self.model, "parameter_groups", self.parameters)()
        try:
            return self._optimizer(parameters)
        except Exception as error:  # libraries have classes of their own for wrong arguments
            raise UserError(f"optimizer: {error}") from error

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another optimizer."""
        states = checkpoint.get("optimizer_states")
        if not states:
            return
        needed = self.make_optimizer().defaults.keys()
        if not needed <= states[0]["param_groups"][0].keys():
            raise UserError(
                "the checkpoint is of another optimizer; go on with that of the run's config.yaml"
            )

    def configure_optimizers(self) -> Any:
        """One optimizer, and one schedule that is stepped every training step."""
        if hasattr(self.model, "fit"):
            return None
        return self.optimizer_and_schedule(self.trainer.max_steps)

    def optimizer_and_schedule(self, total_steps: int) -> dict[str, Any]:
        """Result of :meth:`configure_optimizers` for a training of ``total_steps``."""
        optimizer = self.make_optimizer()
        scheduler = self._scheduler(optimizer, total_steps=total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
