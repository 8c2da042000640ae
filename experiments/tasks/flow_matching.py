"""The task of generating events by flow matching (arXiv:2210.02747, 2411.00446).

Legend: B events, P particles of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.flows.flow import COORDINATES, Flow
from experiments.flows.ode import TRACES, Solver
from experiments.flows.state import FlowState
from experiments.metrics.classifier_test import ClassifierTest
from experiments.options.markers import Limit, OneOf
from experiments.tasks.generation import Generation

_SEEDS = 2**31


class Matched(NamedTuple):
    """Where events are on their way, and how they should move.

    Parameters
    ----------
    state
        What the model is given.
    target
        Velocity ``(B, P, 4)`` of standardised coordinates.
    batch
        The events.
    """

    state: FlowState
    target: Tensor
    batch: EventBatch

    def __len__(self) -> int:
        return len(self.batch)


class FlowMatching(Generation):
    """Train a velocity field that carries a base distribution to that of the events.

    Trajectories from a point of the base to one of the data are straight, in standardised
    (log(pT - pT_min), phi, eta, log m^2).

    Parameters
    ----------
    spec, model, optimizer, scheduler, resonances, classifier
    nll_events, test_nll_events, graph_step
        As of :class:`~experiments.tasks.generation.Generation`; the model is a
        :class:`~experiments.models.velocity.base.VelocityField`.
    solver
        Follows trajectories.
    trajectories, periodic, rejects
        As of :class:`~experiments.flows.flow.Flow`.
    trace
        Of the derivative, for densities: ``exact``, or Hutchinson's estimate.
    """

    def __init__(
        self,
        spec: DataSpec,
        model: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        solver: Solver,
        resonances: Mapping[str, Sequence[str]],
        classifier: ClassifierTest | None,
        trajectories: Annotated[str, OneOf(tuple(COORDINATES))] = "coordinates",
        periodic: bool = True,
        rejects: bool = True,
        trace: Annotated[str, OneOf(TRACES)] = "hutchinson",
        nll_events: Limit = 200,
        test_nll_events: Limit = 1000,
        graph_step: Limit | None = None,
    ) -> None:
        super().__init__(
            spec, model, optimizer, scheduler, resonances, classifier, nll_events,
            test_nll_events, graph_step,
        )  # fmt: skip
        if hasattr(model, "log_density"):
            raise UserError("model: a network with densities belongs to task=autoregression")
        self.flow = Flow(self.state, trajectories, periodic, rejects)
        self.solver, self.trace = solver, trace
        self._drawn = 0

    def fit(self, momenta: Tensor) -> None:
        """Fit coordinates and base to training events ``(B, P, 4)``."""
        self.flow.fit(momenta)

    def presented(self, batch: EventBatch) -> Matched:
        """Points on straight trajectories to the events of a batch, at random times.

        In validations, times and starts are the same each time.
        """
        if self.training:
            seed = int(torch.randint(_SEEDS, ()))
        else:
            seed, self._drawn = _SEEDS + self._drawn, self._drawn + 1
        time, x, target = self.flow.matched(batch.fourmomenta.unflatten(0, (len(batch), -1)), seed)
        state = FlowState.at(time, x, self.flow.coordinates, batch.condition)
        return Matched(state, target, batch)

    def events_of(self, given: Matched) -> EventBatch:
        """The events that were presented."""
        return given.batch

    def raw_outputs(self, given: Matched) -> Any:
        """What the model returns."""
        return self.model(given.state)

    def shape_of(self, given: Matched) -> tuple[int, ...]:
        """That of the coordinates."""
        return tuple(given.state.x.shape)

    def losses(self, outputs: Tensor, given: Matched) -> Tensor:
        """Mean squared error of the velocity of each event, over the components that are free."""
        squares = (outputs - given.target.to(outputs.dtype)).square().flatten(1).sum(1)
        return squares / self.flow.dimensions

    def begin_again(self) -> None:
        """Begin with the same random numbers as in all validations, and in the test."""
        super().begin_again()
        self._drawn = 0

    def log_density(self, momenta: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithm of the density of events, by :meth:`.Flow.log_density`."""
        return self.flow.log_density(self.model, momenta, self.solver, self.trace, condition)

    def generate(
        self, numbers: Sequence[int], seed: int, condition: Tensor | None = None
    ) -> Tensor:
        """Events, by :meth:`.Flow.generate`."""
        return self.flow.generate(self.model, numbers, seed, self.solver, condition)
