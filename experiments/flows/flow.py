"""A flow: coordinates, base distribution, and what a velocity field does to them.

Legend: B events, P particles of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from data.events.final_state import FinalState
from experiments.flows.base import BaseDistribution
from experiments.flows.coordinates import Coordinates
from experiments.flows.momentum_coordinates import MomentumCoordinates
from experiments.flows.ode import Solver, Velocity, generated, transported_back
from experiments.flows.state import FlowState

COORDINATES: dict[str, type[Coordinates]] = {
    "coordinates": Coordinates,
    "momenta": MomentumCoordinates,
}
"""By the option ``task.trajectories``."""
Field = Callable[[FlowState], Tensor]


class Flow(nn.Module):
    """Coordinates and base of events of one kind.

    Parameters
    ----------
    final_state
        What an event is.
    trajectories
        Where they are straight: in ``coordinates``, or in ``momenta``.
    periodic
        Whether trajectories go the shorter way around in phi.
    rejects
        Whether the base obeys all cuts.
    """

    def __init__(
        self,
        final_state: FinalState,
        trajectories: str = "coordinates",
        periodic: bool = True,
        rejects: bool = True,
    ) -> None:
        super().__init__()
        least = [final_state.cuts.pt if m is None else 0.0 for m in final_state.masses]
        self.coordinates = COORDINATES[trajectories](least, final_state.masses, periodic)
        self.base = BaseDistribution(final_state, rejects)

    @property
    def dimensions(self) -> int:
        """Number of components that are free."""
        return int(self.coordinates.is_free.sum())

    def fit(self, momenta: Tensor) -> None:
        """Fit both to events ``(B, P, 4)``."""
        self.coordinates.fit(momenta)
        self.base.fit(momenta)

    def matched(self, momenta: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Points on straight trajectories, and velocities there.

        Parameters
        ----------
        momenta
            Events ``(B, P, 4)``, where trajectories end.
        seed
            Of times and starts.

        Returns
        -------
        time
            ``(B,)``, uniform.
        x, velocity
            ``(B, P, 4)``, in coordinates.
        """
        random = np.random.default_rng(seed)
        drawn = self.base.drawn_within_cuts(random, len(momenta))
        start = self.coordinates.of(torch.from_numpy(drawn).to(momenta.device))
        time = torch.from_numpy(random.uniform(size=len(momenta))).to(momenta.device)
        velocity = self.coordinates.difference(self.coordinates.of(momenta), start)
        return time, start + time[:, None, None] * velocity, velocity

    def velocity_of(self, field: Field, condition: Tensor | None = None) -> Velocity:
        """The field as a function of times and coordinates."""

        def velocity(time: Tensor, x: Tensor) -> Tensor:
            found = field(FlowState.at(time, x, self.coordinates, condition))
            return found.to(x.dtype)

        return velocity

    def generate(
        self,
        field: Field,
        numbers: Sequence[int],
        seed: int,
        solver: Solver,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Events ``(B, P, 4)`` in GeV, float64; each depends on its number and the seed alone.

        Parameters
        ----------
        field
            The velocity field.
        numbers
            A number for each event.
        seed
            Of all of them.
        solver
            How trajectories are followed.
        condition
            ``(B, U, 4)``, what each event belongs to.
        """
        device = self.coordinates.mean.device
        start = self.coordinates.of(self.base.sample(numbers, seed).to(device))
        end = generated(self.velocity_of(field, condition), start, solver)
        return self.coordinates.momenta(end)

    def log_density(
        self,
        field: Field,
        momenta: Tensor,
        solver: Solver,
        trace: str = "exact",
        condition: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logarithm of the density of events ``(B, P, 4)``, and whether it is more than zero.

        The density is that in (log(pT - pT_min), phi, eta, log m^2) of all particles, before
        standardisation; transverse momenta and masses in GeV.

        Parameters
        ----------
        field, solver, condition
            As of :meth:`generate`.
        momenta
            Events.
        trace
            ``exact`` or ``hutchinson``.

        Returns
        -------
        log_density
            ``(B,)``. Where an event comes from outside of the cuts of the base, the base is
            continued (:meth:`.BaseDistribution.log_density`).
        is_inside
            ``(B,)``, whether it comes from inside.
        """
        end = self.coordinates.of(momenta)
        probe = None
        if trace == "hutchinson":
            generator = torch.Generator().manual_seed(0)
            signs = torch.randint(2, end.shape, generator=generator).to(end)
            probe = 2 * signs - 1
        start, growth = transported_back(self.velocity_of(field, condition), end, solver, probe)
        began = self.coordinates.momenta(start)
        at_start = self.base.log_density(began) + self.coordinates.log_volume(start)
        return at_start - growth - self.coordinates.log_scale, self.base.is_inside(began)
