"""The task of predicting a quantity of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.metrics.headline import MSE
from experiments.metrics.hierarchy import hierarchy
from experiments.metrics.predictions import Predictions
from experiments.metrics.regression_metrics import regression_metrics
from experiments.options.markers import Limit
from experiments.plots import regression
from experiments.saved_runs import run_directory
from experiments.tasks.base import Task

VALIDATION_METRICS = ("mse", "median_relative_error")
"""Of :func:`.regression_metrics`: computed, logged and shown after each validation."""
_MADE_UP = 64


class Regression(Task[Predictions]):
    """Predict the logarithm of an amplitude, by its mean squared error.

    The target is standardised by its mean and standard deviation over the training sample, which
    are saved with the weights. The model returns one number for each event, the standardised
    logarithm; or two, the other one being the logarithm of the variance of its error, by the
    likelihood of a normal distribution (heteroscedastic loss).

    Parameters
    ----------
    spec, model, optimizer, scheduler, graph_step
        As of :class:`~experiments.tasks.base.Task`.
    uncertainty
        Whether the model predicts its uncertainty, too.
    """

    validation_metrics = VALIDATION_METRICS
    headline = MSE
    counted = "events"
    followed = "mse"
    results = Predictions

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: DataSpec,
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        graph_step: Limit | None = None,
        uncertainty: bool = False,
    ) -> None:
        super().__init__(spec, model, optimizer, scheduler, graph_step)
        self.uncertainty = uncertainty
        if spec.quantity is None:
            raise UserError(
                f"task.{type(self).__name__}: these data have classes ({', '.join(spec.classes)}) "
                "and no quantity to predict; choose task=tagging, or data=amplitudes"
            )
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("std", torch.ones((), dtype=torch.float64))

    @property
    def question(self) -> str:
        """What a report answers, up to the question mark."""
        return f"How closely does it predict the {self.spec.quantity} of events"

    @classmethod
    def spec_on_trial(cls, features: int, options: Any) -> DataSpec:
        """A data set to build a model for before data are read."""
        return DataSpec(features, quantity="a quantity")

    @classmethod
    def asked(cls, spec: DataSpec, options: Any) -> DataSpec:
        """With a second output if the uncertainty is wanted."""
        return replace(spec, uncertain=bool(options.get("uncertainty", False)))

    def setup(self, stage: str) -> None:
        """Standardise by the training sample; a checkpoint then brings the same numbers."""
        if stage == "fit":
            self.check_data(self.trainer.datamodule)  # type: ignore[attr-defined]

    def check_data(self, datamodule: Any) -> None:
        """Take mean and standard deviation of the target, which must vary."""
        mean, std = datamodule.target_statistics()
        if not std > 0:
            raise UserError(
                f"data: all training events have the same {self.spec.quantity}; there is nothing "
                "to learn"
            )
        self.mean.fill_(mean)
        self.std.fill_(std)

    def standardised(self, target: Tensor) -> Tensor:
        """The target of a batch in float64, in units of the network."""
        return (target - self.mean) / self.std

    def loss_of(self, outputs: Tensor, batch: EventBatch) -> Tensor:
        """Mean squared error of the standardised quantity, or the likelihood of its error."""
        target = self.standardised(batch.target).to(outputs.dtype)
        if not self.uncertainty:
            return F.mse_loss(outputs, target)
        mean, log_variance = outputs.unbind(-1)
        return 0.5 * ((target - mean).square() * torch.exp(-log_variance) + log_variance).mean()

    def kept(self, outputs: Tensor, batch: EventBatch) -> Predictions:
        """Predicted and true values of a batch."""
        outputs, target = outputs.detach().double(), self.standardised(batch.target)
        if not self.uncertainty:
            return Predictions(outputs, target, None, hierarchy(batch))
        mean, log_variance = outputs.unbind(-1)
        return Predictions(mean, target, torch.exp(0.5 * log_variance), hierarchy(batch))

    def metrics_of(self, results: Predictions, allow_absent: bool = False) -> dict[str, Any]:
        """Metrics of a whole sample, by :func:`.regression_metrics`."""
        return regression_metrics(results, float(self.std))

    @classmethod
    def bar_name(cls) -> str:
        """Name of what progress bars show of a validation."""
        return "val_mse_times_1e5"

    def on_bar(self, values: Mapping[str, float]) -> float:
        """The error in the units of the papers: bars show three digits."""
        return 1e5 * values["mse"]

    def made_up(self) -> Predictions:
        """Random predictions of a few events."""
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(3, _MADE_UP, generator=generator, dtype=torch.float64)
        sigma = torch.full_like(drawn[0], 0.1) if self.uncertainty else None
        return Predictions(drawn[0], drawn[0] + 0.1 * drawn[1], sigma, drawn[2].exp())

    def save(self, results: Predictions, directory: Path) -> None:
        """Write predicted and true logarithms."""
        results.save(directory / run_directory.PREDICTIONS, float(self.mean), float(self.std))

    def draw(self, results: Predictions, plots: Path) -> None:
        """Relative errors, residuals against the amplitude, predicted against true."""
        regression.plot_all(results, float(self.mean), float(self.std), plots)
