"""Transport by a velocity field, and the likelihood that it gives (arXiv:1806.07366, 2210.02747).

Legend: B events, P particles of each, D = 4 P components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torchdiffeq import odeint

from experiments.options.markers import OneOf, Positive

Velocity = Callable[[Tensor, Tensor], Tensor]
"""From times ``(B,)`` and coordinates ``(B, P, 4)`` to the velocity of coordinates."""
_FIXED = ("euler", "midpoint", "rk4")
METHODS = (*_FIXED, "dopri5", "bosh3")
TRACES = ("exact", "hutchinson")


@dataclass(frozen=True)
class Solver:
    """How trajectories are followed, by :mod:`torchdiffeq`.

    Parameters
    ----------
    method
        With fixed steps: ``rk4``, ``midpoint``, ``euler``; with adaptive ones: ``dopri5``,
        ``bosh3``.
    step
        Length of fixed steps; the whole time is 1.
    tolerance
        Absolute and relative tolerance of adaptive ones.
    """

    method: Annotated[str, OneOf(METHODS)] = "rk4"
    step: Positive = 0.02
    tolerance: Positive = 1e-5

    def transport(self, velocity: Callable[..., object], start: object, times: Tensor) -> object:
        """The end of the trajectories from the first to the last time."""
        options: dict[str, object] = {"method": self.method}
        if self.method in _FIXED:
            options["options"] = {"step_size": self.step}
        else:
            options["rtol"] = options["atol"] = self.tolerance
        found = odeint(velocity, start, times, **options)
        if isinstance(found, tuple):
            return tuple(part[-1] for part in found)
        return found[-1]


def generated(velocity: Velocity, start: Tensor, solver: Solver) -> Tensor:
    """Coordinates ``(B, P, 4)`` at time 1 of what is at ``start`` at time 0."""
    times = start.new_tensor([0.0, 1.0])
    with torch.no_grad():
        found = solver.transport(lambda t, x: velocity(t.expand(len(x)), x), start, times)
    assert isinstance(found, Tensor)
    return found


def divergence(
    velocity: Velocity, t: Tensor, x: Tensor, probe: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The velocity and its divergence, ``(B, P, 4)`` and ``(B,)``.

    Parameters
    ----------
    velocity, t, x
        Field, times ``(B,)`` and coordinates ``(B, P, 4)``.
    probe
        Random signs like ``x``, for Hutchinson's estimate; None takes the derivative by every
        component.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = velocity(t, x)
        if probe is not None:
            (gradient,) = torch.autograd.grad(v, x, probe.to(v.dtype))
            return v.detach(), (gradient * probe).sum((1, 2))
        trace = x.new_zeros(len(x))
        flat = v.flatten(1)
        for i in range(flat.shape[1]):
            (gradient,) = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)
            trace = trace + gradient.flatten(1)[:, i]
    return v.detach(), trace


def transported_back(
    velocity: Velocity, end: Tensor, solver: Solver, probe: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Where coordinates at time 1 come from, and how much their volume has grown.

    Parameters
    ----------
    velocity
        The field.
    end
        Coordinates ``(B, P, 4)`` at time 1.
    solver
        How trajectories are followed.
    probe
        As of :func:`divergence`.

    Returns
    -------
    start
        Coordinates ``(B, P, 4)`` at time 0.
    growth
        ``(B,)``, the integral of the divergence along the trajectory: the logarithm of the density
        at time 0 less that at time 1.
    """

    def field(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, _ = state
        return divergence(velocity, t.expand(len(x)), x, probe)

    start = end, end.new_zeros(len(end))
    with torch.no_grad():
        found = solver.transport(field, start, end.new_tensor([1.0, 0.0]))
    assert isinstance(found, tuple)
    x, change = found
    return x, -change
