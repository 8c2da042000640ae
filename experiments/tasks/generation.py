"""What tasks of generating events share: their test, by densities and by generated events.

Legend: B events, P particles of each.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from data.events.final_state import Cuts, FinalState
from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.metrics.classifier_test import ClassifierTest
from experiments.metrics.event_observables import members
from experiments.metrics.generated import Generated
from experiments.metrics.generation_metrics import Told, generation_metrics, tell_apart
from experiments.metrics.headline import NLL
from experiments.options.markers import Limit
from experiments.plots import events as plots
from experiments.saved_runs import run_directory
from experiments.tasks.base import Task

VALIDATION_METRICS = ("loss", "nll")
"""Computed, logged and shown after each validation."""
_MADE_UP = 60
_OF_THE_TEST = 0
"""Seed of the events that a test generates."""


class Generation(Task[Generated]):
    """Base of such tasks: a test generates as many events as the sample has.

    Subclasses say what is presented to the model, its losses, and how densities and events are had.

    Parameters
    ----------
    spec, model, optimizer, scheduler, graph_step
        As of :class:`~experiments.tasks.base.Task`.
    nll_events, test_nll_events
        How many events of a validation, and of a test, densities are computed of.
    resonances
        Names of what decayed, and of the particles that it decayed to.
    classifier
        Tells generated events from those of the data; None leaves it out.
    """

    validation_metrics = VALIDATION_METRICS
    headline = NLL
    counted = "events"
    followed = "loss"
    has_invariant_outputs = False
    results = Generated

    def __init__(
        self,
        spec: DataSpec,
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        resonances: Mapping[str, Sequence[str]],
        classifier: ClassifierTest | None,
        nll_events: Limit,
        test_nll_events: Limit,
        graph_step: Limit | None = None,
    ) -> None:
        super().__init__(spec, model, optimizer, scheduler, graph_step)
        if spec.final_state is None:
            raise UserError(
                f"task.{type(self).__name__}: it generates events, and these data have "
                f"{spec.described}; choose data=events"
            )
        self.state = spec.final_state
        self.resonances = {name: list(parts) for name, parts in resonances.items()}
        members(self.state, self.resonances)  # whose names must be those of particles
        self.classifier = classifier
        self.nll_events, self.test_nll_events = nll_events, test_nll_events
        self._first = 0
        self._examples: Tensor | None = None
        self._told: Told | None = None

    @abstractmethod
    def fit(self, momenta: Tensor) -> None:
        """Standardise by training events ``(B, P, 4)``."""

    @abstractmethod
    def losses(self, outputs: Tensor, given: Any) -> Tensor:
        """Loss of each event, ``(B,)``."""

    @abstractmethod
    def log_density(self, momenta: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithm of the density of events ``(B, P, 4)``, and whether it is more than zero.

        In (log(pT - pT_min), phi, eta, log m^2) of all particles, in GeV, before standardisation.
        """

    @abstractmethod
    def generate(
        self, numbers: Sequence[int], seed: int, condition: Tensor | None = None
    ) -> Tensor:
        """Events ``(B, P, 4)`` in GeV, float64; each depends on its number and the seed alone."""

    @property
    def question(self) -> str:
        """What a report answers, up to the question mark."""
        return "How much do generated events resemble those of the data"

    @classmethod
    def spec_on_trial(cls, features: int, options: Any) -> DataSpec:
        """Events of the particles that resonances decay to, at least two."""
        resonances = options.get("resonances") or {}
        names = dict.fromkeys(str(part) for parts in resonances.values() for part in parts)
        for name in ("a", "b"):
            if len(names) < 2:
                names[name] = None
        cuts = Cuts(20.0, 0.0, math.inf)
        return DataSpec(0, final_state=FinalState(tuple(names), (None,) * len(names), cuts))

    def setup(self, stage: str) -> None:
        """Standardise by the training sample; a checkpoint then brings the same numbers."""
        if stage == "fit":
            self.check_data(self.trainer.datamodule)  # type: ignore[attr-defined]

    def check_data(self, datamodule: Any) -> None:
        """Standardise by the training events."""
        momenta = datamodule.events["train"].fourmomenta
        self._examples = momenta[:_MADE_UP].cpu()
        self.fit(momenta)

    def loss_of(self, outputs: Tensor, given: Any) -> Tensor:
        """Mean loss of a batch."""
        return self.losses(outputs, given).mean()

    def begin_again(self) -> None:
        """Count events from the first: before every validation, and the test."""
        self._first = 0

    def on_validation_epoch_start(self) -> None:
        """Before every validation."""
        self.begin_again()

    def on_test_epoch_start(self) -> None:
        """Before the test."""
        self.begin_again()

    def events_of(self, given: Any) -> EventBatch:
        """The events that were presented."""
        batch: EventBatch = given
        return batch

    def kept(self, outputs: Tensor, given: Any) -> Generated:
        """Losses, and densities of the first events."""
        return self._kept(outputs, given, self.nll_events, generates=False)

    def _kept(self, outputs: Tensor, given: Any, nll_events: int, generates: bool) -> Generated:
        losses = self.losses(outputs.detach(), given).double()
        batch = self.events_of(given)
        count, first = len(batch), self._first
        self._first += count
        wanted = min(max(nll_events - first, 0), count)
        truth = batch.fourmomenta.unflatten(0, (count, -1)).double()
        density = inside = losses.new_zeros(0)
        if wanted:
            # Tests run in inference mode, whose tensors have no gradients.
            with torch.inference_mode(False):
                condition = None if batch.condition is None else batch.condition[:wanted].clone()
                density, inside = self.log_density(truth[:wanted].clone(), condition)
        made = truth[:0]
        if generates:
            made = self.generate(range(first, first + count), _OF_THE_TEST, batch.condition)
        return Generated(losses, -density, inside.double(), truth if generates else made, made)

    def test_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Generate as many events."""
        with torch.autocast(self.device.type, enabled=False):
            given = self.presented(batch)
            outputs = self(given)
            self._parts.append(self._kept(outputs, given, self.test_nll_events, generates=True))

    def metrics_of(self, results: Generated, allow_absent: bool = False) -> dict[str, Any]:
        """Metrics of a whole sample, by :func:`.generation_metrics`."""
        with torch.inference_mode(False), torch.enable_grad():
            self._told = tell_apart(results, self.state, self.resonances, self.classifier)
        return generation_metrics(results, self.state, self.resonances, self._told)

    def made_up(self) -> Generated:
        """Events of the data, in place of generated ones as well, in another order."""
        assert self._examples is not None
        ones = torch.ones(len(self._examples), dtype=torch.float64)
        return Generated(ones, ones[:4], ones[:4], self._examples, self._examples.flip(0))

    def save(self, results: Generated, directory: Path) -> None:
        """Write events of the data and generated ones."""
        results.save(directory / run_directory.EVENTS, self.state.names)

    def draw(self, results: Generated, plots_directory: Path) -> None:
        """Observables of generated events over those of the data, and a classifier's weights."""
        # On trial, one panel of each figure, because all of them take seconds.
        most = 1 if results.truth is self._examples else plots.MOST_PANELS
        plots.plot_all(results, self.state, self.resonances, plots_directory, most)
        if self._told is not None:
            of_data, of_generated = (self._told.weights(x).numpy() for x in (True, False))
            plots.plot_weights(of_data, of_generated, plots_directory)
