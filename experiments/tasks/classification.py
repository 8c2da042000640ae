"""The task of classifying events."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

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
from experiments.plots import tagging
from experiments.saved_runs import run_directory
from experiments.tasks.base import Task

VALIDATION_METRICS = ("accuracy", "auc", "loss")
"""Of :func:`.score_metrics`: computed, logged and shown after each validation."""

_JETS_PER_CLASS = 16
_SPLITS = (
    ("val", "validation", "no weights could be told to be the best", "data.eval_limit"),
    ("train", "training", "nothing could be learned of them", "data.limit"),
)

Efficiency = Annotated[float, Range(0, 1, above=True, below=True)]


class Classification(Task[Scores]):
    """Train a classifier by cross entropy.

    Parameters
    ----------
    spec, model, optimizer, scheduler, graph_step
        As of :class:`~experiments.tasks.base.Task`; the model returns one logit for two classes,
        else one for each.
    background, efficiencies
        For more than two classes: see :func:`~experiments.metrics.multiclass.multiclass_metrics`.
    """

    validation_metrics = VALIDATION_METRICS
    shown = "auc"
    followed = "loss"
    results = Scores
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
        super().__init__(spec, model, optimizer, scheduler, graph_step)
        if spec.quantity is not None:
            raise UserError(
                f"task.{type(self).__name__}: these data have no classes, but the {spec.quantity} "
                "of events; choose task=regression"
            )
        self.background, self.efficiencies = background, dict(efficiencies or {})
        named = {*self.efficiencies, *([] if background is None else [background])}
        if unknown := sorted(named - set(spec.classes)):
            raise ValueError(
                f"no class {', '.join(unknown)}; the sample has {', '.join(spec.classes)}"
            )

    @classmethod
    def spec_on_trial(cls, features: int, options: Any) -> DataSpec:
        """A data set with the classes that the options name, at least two."""
        named = [options.get("background"), *(options.get("efficiencies") or {})]
        classes = dict.fromkeys(str(name) for name in named if name is not None)
        for name in ("background", "signal"):
            if len(classes) < 2:
                classes[name] = None
        return DataSpec(features, tuple(classes))

    def loss_of(self, outputs: Tensor, batch: EventBatch) -> Tensor:
        """Mean cross entropy of the logits of a batch."""
        if self.spec.num_outputs == 1:
            return F.binary_cross_entropy_with_logits(outputs, batch.target.to(outputs.dtype))
        return F.cross_entropy(outputs, batch.target)

    def kept(self, outputs: Tensor, batch: EventBatch) -> Scores:
        """Scores of a batch."""
        return Scores.of(outputs, batch)

    def metrics_of(self, results: Scores, allow_absent: bool = False) -> dict[str, Any]:
        """Metrics of a whole sample, by :func:`.score_metrics`."""
        return score_metrics(
            results, self.spec.classes, self.background, self.efficiencies, allow_absent
        )

    def made_up(self) -> Scores:
        """Random scores of a few jets of each class."""
        outputs, classes = self.spec.num_outputs, len(self.spec.classes)
        jets = _JETS_PER_CLASS * classes
        generator = torch.Generator().manual_seed(0)
        shape = (jets,) if outputs == 1 else (jets, outputs)
        return Scores(
            torch.randn(shape, generator=generator),
            torch.arange(jets) % classes,
            100 * torch.rand(jets, generator=generator),
        )

    def check_data(self, datamodule: Any) -> None:
        """Check that training, validation and test samples have jets of every class."""
        classes = self.spec.classes
        if len(set(classes)) < len(classes):
            raise UserError(f"classes need different names, not {', '.join(classes)}")
        if not hasattr(datamodule, "absent_classes"):
            return
        for split, name, why, limit in _SPLITS:
            if absent := datamodule.absent_classes(split):
                raise UserError(
                    f"{datamodule.path}: the {name} sample has no jets of {', '.join(absent)}, so "
                    f"that {why}; take more of it ({limit}) or another sample"
                )
        if absent := datamodule.absent_classes("test"):
            warnings.warn(
                f"the test sample has no jets of {', '.join(absent)}; AUC and rejections will be "
                "undefined",
                stacklevel=2,
            )

    def save(self, results: Scores, directory: Path) -> None:
        """Write scores."""
        results.save(directory / run_directory.SCORES, self.spec.classes)

    def draw(self, results: Scores, plots: Path) -> None:
        """ROC curve, distributions, calibration."""
        tagging.plot_all(results, self.spec.classes, self.background, plots)
