"""The task of classifying events and predicting further quantities of them at once.

Legend: B events, Q further outputs, J jets of a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.metrics.further import Further, further_metrics
from experiments.metrics.scores import Scores
from experiments.options.markers import Positive, Range, Text
from experiments.plots import further as plots
from experiments.saved_runs import run_directory
from experiments.tasks.classification import Classification

Level = Annotated[float, Range(0, 1, above=True, below=True)]


@dataclass(frozen=True)
class Target:
    """A further quantity of events, which a column of them holds.

    Parameters
    ----------
    column
        The column of events with its true value.
    weight
        Of its loss, beside the cross entropy's 1.
    logarithm
        Whether its logarithm is predicted: for quantities above zero that differ by factors.
    quantiles
        Levels of quantiles that are predicted (pinball loss), such as [0.16, 0.5, 0.84]; none
        predicts its mean (squared error).
    """

    column: Text
    weight: Positive = 1.0
    logarithm: bool = False
    quantiles: tuple[Level, ...] = ()

    def __post_init__(self) -> None:
        levels = tuple(self.quantiles)
        object.__setattr__(self, "quantiles", levels)
        if any(b <= a for a, b in zip(levels, levels[1:], strict=False)):
            raise UserError(f"task.targets: quantiles must rise, not {list(levels)}")

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return max(len(self.quantiles), 1)

    def transformed(self, values: Tensor) -> Tensor:
        """What is predicted, of true values."""
        return values.log() if self.logarithm else values

    def restored(self, values: Tensor) -> Tensor:
        """The inverse of :meth:`transformed`."""
        return values.exp() if self.logarithm else values

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each event, ``(B,)``, of outputs ``(B, outputs)``."""
        if not self.quantiles:
            return (outputs[:, 0] - target).square()
        levels = outputs.new_tensor(self.quantiles)
        over = target[:, None] - outputs
        return torch.maximum(levels * over, (levels - 1) * over).sum(dim=1)


class SeveralTargets(Classification):
    """Train a classifier that also predicts quantities of events.

    The loss is the cross entropy and a weighted sum of those of the quantities, which are
    standardised by the training sample.

    Parameters
    ----------
    spec, model, optimizer, scheduler, options
        As of :class:`~experiments.tasks.classification.Classification`; the model returns the
        outputs of all quantities behind the logits.
    targets
        The quantities, by name.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: DataSpec,
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        targets: Mapping[str, Target],
        **options: Any,
    ) -> None:
        super().__init__(spec, model, optimizer, scheduler, **options)
        self.targets = dict(targets)
        self.register_buffer("mean", torch.zeros(len(self.targets), dtype=torch.float64))
        self.register_buffer("std", torch.ones(len(self.targets), dtype=torch.float64))

    @classmethod
    def asked(cls, spec: DataSpec, options: Any) -> DataSpec:
        """With the outputs of all quantities."""
        wanted = (options.get("targets") or {}).values()
        outputs = sum(max(len(target.get("quantiles") or ()), 1) for target in wanted)
        return replace(spec, further_outputs=outputs)

    def setup(self, stage: str) -> None:
        """Standardise by the training sample; a checkpoint then brings the same numbers."""
        if stage == "fit":
            self.check_data(self.trainer.datamodule)  # type: ignore[attr-defined]

    def check_data(self, datamodule: Any) -> None:
        """Take mean and standard deviation of every quantity, which must vary."""
        super().check_data(datamodule)
        for place, (name, target) in enumerate(self.targets.items()):
            values = torch.from_numpy(datamodule.column_of_training(target.column)).double()
            if target.logarithm and not (values > 0).all():
                raise UserError(
                    f"task.targets.{name}: {target.column} is not above zero for all training "
                    "jets, so that it has no logarithm; set logarithm to false"
                )
            std, mean = torch.std_mean(target.transformed(values), correction=0)
            if not std > 0:
                raise UserError(
                    f"task.targets.{name}: {target.column} is the same for all training jets; "
                    "there is nothing to learn"
                )
            self.mean[place], self.std[place] = mean, std

    def _logits(self, outputs: Tensor) -> Tensor:
        count = self.spec.class_outputs
        return outputs[:, 0] if count == 1 else outputs[:, :count]

    def _further(self, outputs: Tensor) -> list[Tensor]:
        """Outputs of each quantity, ``(B, outputs)``, in standard units."""
        sizes = [target.outputs for target in self.targets.values()]
        return list(outputs[:, self.spec.class_outputs :].split(sizes, dim=1))

    def _true(self, batch: EventBatch, name: str) -> Tensor:
        column = self.targets[name].column
        if column not in batch.columns:
            raise UserError(
                f"task.targets.{name}: batches have no column {column}; add it to "
                "data.event_columns"
            )
        return batch.columns[column].double()

    def loss_of(self, outputs: Tensor, batch: EventBatch) -> Tensor:
        """Cross entropy, and the weighted losses of all quantities."""
        total = super().loss_of(self._logits(outputs), batch)
        for place, ((name, target), found) in enumerate(
            zip(self.targets.items(), self._further(outputs), strict=True)
        ):
            true = target.transformed(self._true(batch, name))
            scaled = ((true - self.mean[place]) / self.std[place]).to(found.dtype)
            losses = target.losses(found, scaled)
            if batch.weight is not None:
                losses = losses * batch.weight.to(losses.dtype)
            total = total + target.weight * losses.mean()
        return total

    def kept(self, outputs: Tensor, batch: EventBatch) -> Further:  # type: ignore[override]
        """Scores of a batch, and predicted and true quantities in their own units."""
        predicted, true = {}, {}
        for place, ((name, target), found) in enumerate(
            zip(self.targets.items(), self._further(outputs.detach().double()), strict=True)
        ):
            predicted[name] = target.restored(found * self.std[place] + self.mean[place])
            true[name] = self._true(batch, name)
        return Further(Scores.of(self._logits(outputs), batch), predicted, true)

    def _scores_of(self, kept: Any) -> Scores:
        found: Further = kept
        return found.scores

    results = Further  # type: ignore[assignment]

    def metrics_of(  # type: ignore[override]
        self, results: Further, allow_absent: bool = False
    ) -> dict[str, Any]:
        """Those of scores, and of each quantity."""
        levels = {name: target.quantiles for name, target in self.targets.items()}
        return {
            **super().metrics_of(results.scores, allow_absent),
            **further_metrics(results, levels, self.spec.classes),
        }

    def made_up(self) -> Further:  # type: ignore[override]
        """Random scores and quantities of a few jets."""
        scores = super().made_up()
        generator = torch.Generator().manual_seed(0)
        shape = len(self.targets), len(scores.target)
        drawn = 1 + torch.rand(shape, generator=generator, dtype=torch.float64)
        true = dict(zip(self.targets, drawn, strict=True))
        predicted = {
            name: true[name][:, None] * torch.linspace(0.9, 1.1, target.outputs).double()
            for name, target in self.targets.items()
        }
        return Further(scores, predicted, true)

    def save(self, results: Further, directory: Path) -> None:  # type: ignore[override]
        """Write scores, and quantities."""
        super().save(results.scores, directory)
        levels = {name: target.quantiles for name, target in self.targets.items()}
        results.save(directory / run_directory.PREDICTIONS, levels)

    def draw(self, results: Further, directory: Path) -> None:  # type: ignore[override]
        """Plots of scores, and of each quantity."""
        super().draw(results.scores, directory)
        plots.plot_all(results, self.spec.classes, directory)
