"""The task of classifying events."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.metrics.headline import AUC
from experiments.metrics.score_metrics import score_metrics
from experiments.metrics.scores import Scores
from experiments.metrics.windows import check_windows, window_metrics
from experiments.options.markers import Limit, Range, Text
from experiments.plots import displays, tagging
from experiments.plots.style import plain
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
    windows
        Edges of windows of ``pt`` and ``mass`` in GeV, in which metrics of the test are given too.
    """

    validation_metrics = VALIDATION_METRICS
    headline = AUC
    followed = "loss"
    results = Scores

    def __init__(
        self,
        spec: DataSpec,
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        background: Text | None = None,
        efficiencies: Mapping[str, Efficiency] | None = None,
        graph_step: Limit | None = None,
        windows: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(spec, model, optimizer, scheduler, graph_step)
        self.windows = {name: list(edges) for name, edges in (windows or {}).items()}
        check_windows(self.windows)
        self._worst: list[displays.Display] = []
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

    @property
    def question(self) -> str:
        """What a report answers, up to the question mark."""
        names = self.spec.classes
        told = " from ".join(reversed(names)) if len(names) == 2 else ", ".join(names)
        return f"How well does it tell {told}{' apart' if len(names) > 2 else ''}"

    def summary(self) -> list[str]:
        """Names of metrics of the test that a run prints at its end."""
        rejections = (n for n in self.test_metrics if n.startswith("rejection") and "_at_" in n)
        plain = (n for n in rejections if not n.endswith(("_error", "_lower_limit_95")))
        return ["auc", "accuracy", *plain, "loss"]

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
        """Mean cross entropy of the logits of a batch, by the weights of its jets."""
        how = "mean" if batch.weight is None else "none"
        if self.spec.class_outputs == 1:
            target = batch.target.to(outputs.dtype)
            found = F.binary_cross_entropy_with_logits(outputs, target, reduction=how)
        else:
            found = F.cross_entropy(outputs, batch.target, reduction=how)
        # The mean weight of training jets is one, so that the scale is that of a mean.
        return found if batch.weight is None else (found * batch.weight.to(found.dtype)).mean()

    def kept(self, outputs: Tensor, batch: EventBatch) -> Scores:
        """Scores of a batch."""
        return Scores.of(outputs, batch)

    def metrics_of(self, results: Scores, allow_absent: bool = False) -> dict[str, Any]:
        """Metrics of a whole sample, by :func:`.score_metrics`, and of its windows."""

        def metrics(scores: Scores, allow_absent: bool = True) -> dict[str, Any]:
            return score_metrics(
                scores, self.spec.classes, self.background, self.efficiencies, allow_absent
            )

        return {
            **metrics(results, allow_absent),
            **window_metrics(results, self.windows, metrics),
        }

    def on_test_epoch_start(self) -> None:
        """Forget the jets of earlier tests."""
        self._worst = []

    def test_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Keep scores, and the jets of which they are most wrong."""
        super().test_step(batch, batch_idx)
        scores = self._scores_of(self._parts[-1])
        self._worst = displays.joined([*self._worst, *displays.worst_of(scores, batch)])

    def _scores_of(self, kept: Any) -> Scores:
        """The scores among what is kept of a batch."""
        found: Scores = kept
        return found

    def made_up(self) -> Scores:
        """Random scores of a few jets of each class."""
        outputs, classes = self.spec.class_outputs, len(self.spec.classes)
        jets = _JETS_PER_CLASS * classes
        generator = torch.Generator().manual_seed(0)
        shape = (jets,) if outputs == 1 else (jets, outputs)
        return Scores(
            torch.randn(shape, generator=generator),
            torch.arange(jets) % classes,
            100 * torch.rand(jets, generator=generator),
            500 + 100 * torch.rand(jets, generator=generator),
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
        """ROC curve, distributions, calibration, and jets that were taken for others."""
        tagging.plot_all(results, self.spec.classes, self.background, plots)
        displays.plot_displays(self._worst, [plain(c) for c in self.spec.classes], plots)
