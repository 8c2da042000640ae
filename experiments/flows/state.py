"""What a velocity field is asked for: where particles are, and when."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from experiments.flows.coordinates import Coordinates


class FlowState(NamedTuple):
    """Events on their way from noise to data.

    Legend: B events, P particles of each, U particles of each condition.

    Parameters
    ----------
    time
        ``(B,)``, from 0 to 1.
    x
        Coordinates ``(B, P, 4)``.
    momenta
        ``(B, P, 4)`` in GeV, float64.
    coordinates
        The map between both.
    condition
        Momenta ``(B, U, 4)`` in GeV that events belong to, float64, or None.
    """

    time: Tensor
    x: Tensor
    momenta: Tensor
    coordinates: Coordinates
    condition: Tensor | None = None

    @classmethod
    def at(
        cls, time: Tensor, x: Tensor, coordinates: Coordinates, condition: Tensor | None = None
    ) -> FlowState:
        """The state at coordinates."""
        return cls(time, x, coordinates.momenta(x), coordinates, condition)
