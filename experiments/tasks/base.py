"""What tasks share: training steps, optimizers, and metrics of whole samples.

A task says what a model's outputs mean: their loss, what is kept of them, its metrics, plots and
files. How long, where and in which precision is trained is decided elsewhere.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import lightning
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.metrics.headline import Headline
from experiments.options.markers import Limit
from experiments.tasks.recorded_steps import GraphedForward, check_recordable, default_step

CHECK_EVERY = 50  # steps


class Results(Protocol):
    """What a task keeps of a sample: one row of numbers for each event."""

    @classmethod
    def joined(cls, parts: list[Any]) -> Any:
        """Those of several batches, on the CPU."""

    def of_all_processes(self) -> Any:
        """Joined with those of all other processes, if there are any."""

    def in_order(self, rows: Tensor) -> Any:
        """Those of the same events in the order of ``rows`` ``(J,)``, the row of each event."""


R = TypeVar("R", bound=Results)


def _number(metric: float | None) -> float:
    """A metric as callbacks take it: NaN where it is not defined."""
    return math.nan if metric is None else float(metric)


class Task(lightning.LightningModule, Generic[R]):
    """Train a model on events; metrics are those of whole samples.

    Parameters
    ----------
    spec
        Specification of the data set.
    model
        Maps an :class:`EventBatch` to outputs ``(B, outputs)``. If it has a method
        ``fit(batches)``, it is trained by one call of that.
    optimizer
        Makes an optimizer of parameters.
    scheduler
        Makes a learning-rate schedule of an optimizer and ``total_steps``.
    graph_step
        On a GPU, training steps are recorded as CUDA graphs, for batches padded to multiples of
        this many particles (:mod:`experiments.tasks.recorded_steps`); 0 records nothing, and None
        chooses by :func:`~experiments.tasks.recorded_steps.default_step`.
    """

    validation_metrics: ClassVar[tuple[str, ...]]
    """Metrics that are computed, logged as ``val/NAME`` and shown after each validation."""

    headline: ClassVar[Headline]
    """The figure of merit, which progress bars, tables and searches go by."""

    followed: ClassVar[str]
    """The one of them, small for good networks, that schedules follow."""

    counted: ClassVar[str] = "jets"
    """What a sample consists of."""

    has_invariant_outputs: ClassVar[bool] = True
    """Whether outputs of a symmetric model do not change under Lorentz transformations."""

    results: ClassVar[type[Any]]
    """What is kept of a sample."""

    def __init__(
        self,
        spec: DataSpec,
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        graph_step: Limit | None = None,
    ) -> None:
        super().__init__()
        self.graph_step = graph_step
        self._graphed: GraphedForward | None = None
        self.spec = spec
        self.model: Any = model
        self._optimizer, self._scheduler = optimizer, scheduler
        self._parts: list[R] = []
        self.test_results: R | None = None
        self.test_metrics: dict[str, Any] = {}

    @classmethod
    @abstractmethod
    def spec_on_trial(cls, features: int, options: Any) -> DataSpec:
        """A data set that the task fits, to build a model before data are read.

        Parameters
        ----------
        features
            Scalar features per particle.
        options
            Options of the task.
        """

    @classmethod
    def asked(cls, spec: DataSpec, options: Any) -> DataSpec:
        """What a model is built for; by default, the specification of the data.

        Parameters
        ----------
        spec
            Specification of the data.
        options
            Options of the task.
        """
        return spec

    @property
    def question(self) -> str:
        """What a report answers, up to the question mark."""
        return f"What does the network make of {self.spec.described}"

    def presented(self, batch: EventBatch) -> Any:
        """What the model is given, and its outputs are judged by; by default, the batch."""
        return batch

    @abstractmethod
    def loss_of(self, outputs: Tensor, given: Any) -> Tensor:
        """Mean loss of the outputs of what was :meth:`presented`."""

    @abstractmethod
    def kept(self, outputs: Tensor, given: Any) -> R:
        """What is kept of a batch."""

    @abstractmethod
    def metrics_of(self, results: R, allow_absent: bool = False) -> dict[str, Any]:
        """Metrics of a whole sample; ``allow_absent``: None where they are not defined."""

    @abstractmethod
    def made_up(self) -> R:
        """Random results of a few events, for a report on trial."""

    @abstractmethod
    def check_data(self, datamodule: Any) -> None:
        """Raise ``UserError`` if this task cannot be learned or tested on these data."""

    @abstractmethod
    def save(self, results: R, directory: Path) -> None:
        """Write results of a test into a run directory."""

    @abstractmethod
    def draw(self, results: R, plots: Path) -> None:
        """Plot results of a test."""

    def raw_outputs(self, given: Any) -> Any:
        """What the model returns."""
        return self.model(given)

    def forward(self, given: Any) -> Tensor:
        """Outputs ``(B,)`` of a model with one, else ``(B, outputs)``."""
        return self._squeezed(self.raw_outputs(given))

    def _squeezed(self, outputs: Tensor) -> Tensor:
        return outputs.squeeze(-1) if self.spec.num_outputs == 1 else outputs

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
        """Mean loss of a batch."""
        if hasattr(self.model, "fit"):
            return None
        given = self.presented(batch)
        outputs = self(given) if self._graphed is None else self._squeezed(self._graphed(given))
        loss = self.loss_of(outputs, given)
        # Not for the progress bar, for which Lightning would read it in every step.
        self.log("loss", loss, batch_size=len(batch))
        return loss

    def shape_of(self, given: Any) -> tuple[int, ...]:
        """The shape that a model must return."""
        return len(given), self.spec.num_outputs

    def checked(self, output: Any, given: Any) -> Tensor:
        """Check the shape of what a model returned; returns outputs as :meth:`forward`.

        Raises
        ------
        UserError
            If it is not a tensor ``(B, outputs)``.
        """
        wanted = self.shape_of(given)
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if shape != wanted:
            raise UserError(f"the model must return outputs of shape {wanted}, not {shape}")
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

    def _joined(self) -> R:
        """Results of all events since the last call, over all processes."""
        joined: R = self.results.joined(self._parts).of_all_processes()
        self._parts.clear()
        return joined

    def validation_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Keep results, in full precision also in mixed-precision training.

        Scores rounded to eight bits have ties, which makes rejections at low efficiency wrong.
        """
        with torch.autocast(self.device.type, enabled=False):
            given = self.presented(batch)
            outputs = self(given)
        self._parts.append(self.kept(outputs, given))

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole validation set."""
        metrics = self.metrics_of(self._joined())
        values = {name: _number(metrics[name]) for name in self.validation_metrics}
        self.log_dict({f"val/{name}": value for name, value in values.items()})
        self.log(self.bar_name(), self.on_bar(values), prog_bar=True, logger=False)
        for config in self.trainer.lr_scheduler_configs:
            if hasattr(config.scheduler, "observe"):
                config.scheduler.observe(values[self.followed])

    @classmethod
    def bar_name(cls) -> str:
        """Name of what progress bars show of a validation."""
        return f"val_{cls.headline.logged}"

    def on_bar(self, values: Mapping[str, float]) -> float:
        """What progress bars show, of the metrics of a validation."""
        return values[self.headline.logged]

    @classmethod
    def monitored(cls) -> tuple[str, ...]:
        """Metrics that callbacks can monitor."""
        of_validations = (f"val/{name}" for name in cls.validation_metrics)
        return (*of_validations, cls.bar_name(), "loss", "loss_step", "loss_epoch")

    def summary(self) -> list[str]:
        """Names of metrics of the test that a run prints at its end."""
        return [name for name in self.headline.columns if name in self.test_metrics]

    def test_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Keep results."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Metrics of the whole test set, kept for the report."""
        results = self._joined()
        # Batches are of events of like length; files are in the order of the data.
        data: Any = getattr(self.trainer, "datamodule", None)
        rows = data.test_rows() if hasattr(data, "test_rows") else None
        self.test_results = results if rows is None else results.in_order(rows)
        self.test_metrics = self.metrics_of(self.test_results, allow_absent=True)

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
