"""The task of generating events coordinate by coordinate (JetGPT, arXiv:2305.10475).

Legend: B events, P particles of each, D coordinates of an event that are free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.flows.coordinates import Coordinates
from experiments.metrics.classifier_test import ClassifierTest
from experiments.options.markers import Limit
from experiments.tasks.generation import Generation


class Standardised(NamedTuple):
    """Events, and their free coordinates ``(B, D)``."""

    values: Tensor
    batch: EventBatch

    def __len__(self) -> int:
        return len(self.batch)


class Autoregression(Generation):
    """Train a causal network by the likelihood of each coordinate, given those before.

    Parameters
    ----------
    spec, model, optimizer, scheduler, resonances, classifier
    nll_events, test_nll_events, graph_step
        As of :class:`~experiments.tasks.generation.Generation`; the model is a
        :class:`~experiments.models.autoregressive.MixtureTransformer`.
    """

    def __init__(
        self,
        spec: DataSpec,
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        resonances: Mapping[str, Sequence[str]],
        classifier: ClassifierTest | None,
        nll_events: Limit = 10_000,
        test_nll_events: Limit = 100_000,
        graph_step: Limit | None = None,
    ) -> None:
        super().__init__(
            spec, model, optimizer, scheduler, resonances, classifier, nll_events,
            test_nll_events, graph_step,
        )  # fmt: skip
        if spec.conditional or not hasattr(model, "log_density"):
            raise UserError(
                "task=autoregression: it trains model=autoregressive, without conditions; other "
                "models belong to task=flow"
            )
        least = [self.state.cuts.pt if m is None else 0.0 for m in self.state.masses]
        self.coordinates = Coordinates(least, self.state.masses)

    def fit(self, momenta: Tensor) -> None:
        """Standardise by training events ``(B, P, 4)``."""
        self.coordinates.fit(momenta)

    def presented(self, batch: EventBatch) -> Standardised:
        """The coordinates of a batch."""
        momenta = batch.fourmomenta.unflatten(0, (len(batch), -1))
        return Standardised(self.model.free(self.coordinates.of(momenta)), batch)

    def events_of(self, given: Standardised) -> EventBatch:
        """The events that were presented."""
        return given.batch

    def raw_outputs(self, given: Standardised) -> Any:
        """Parameters of distributions."""
        return self.model(given.values)

    def shape_of(self, given: Standardised) -> tuple[int, ...]:
        """Three numbers for each part of each mixture."""
        return (*given.values.shape, 3 * self.model.mixtures)

    def losses(self, outputs: Tensor, given: Standardised) -> Tensor:
        """Negative logarithm of the density in standardised coordinates, per coordinate."""
        return -self.model.log_density(outputs, given.values).mean(1)

    def log_density(self, momenta: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithm of the density of events, exact."""
        values = self.model.free(self.coordinates.of(momenta))
        with torch.no_grad():
            found = self.model.log_density(self.model(values), values).double().sum(1)
        return found - self.coordinates.log_scale, torch.ones_like(found, dtype=torch.bool)

    def generate(
        self, numbers: Sequence[int], seed: int, condition: Tensor | None = None
    ) -> Tensor:
        """Events, coordinate by coordinate."""
        x = self.model.whole(self.model.generate(numbers, seed), self.coordinates.particles)
        return self.coordinates.momenta(x)
