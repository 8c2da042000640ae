"""What an event consists of: its particles, and the cuts on its jets.

Legend: N events, P particles of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MUON_MASS = 0.1056584
"""GeV."""


MOST_PARTICLES = 100


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf


@dataclass(frozen=True)
class Cuts:
    """What every jet of an event satisfies.

    Parameters
    ----------
    pt
        Smallest transverse momentum in GeV.
    delta_r
        Smallest distance :math:`\\Delta R` between any two jets.
    eta
        Largest pseudorapidity.
    """

    pt: float
    delta_r: float
    eta: float


@dataclass(frozen=True)
class FinalState:
    """The particles of events of one kind, in their order.

    Parameters
    ----------
    names
        Of the particles.
    masses
        In GeV; None for a jet, whose mass differs from event to event.
    cuts
        On the jets.
    """

    names: tuple[str, ...]
    masses: tuple[float | None, ...]
    cuts: Cuts

    @classmethod
    def from_plain(cls, plain: Any) -> FinalState:
        """Of what :func:`dataclasses.asdict` made.

        Raises
        ------
        ValueError
            If it is none.
        """
        if not isinstance(plain, dict):
            raise ValueError(f"a mapping is wanted, not {type(plain).__name__}")
        names, masses, cuts = (plain.get(name) for name in ("names", "masses", "cuts"))
        if not (isinstance(names, (list, tuple)) and all(isinstance(n, str) and n for n in names)):
            raise ValueError("names must be a list of names")
        if not (isinstance(masses, (list, tuple)) and len(masses) == len(names)):
            raise ValueError(f"masses must be a list of {len(names)}, one for each name")
        if not all(mass is None or _is_number(mass) for mass in masses):
            raise ValueError("masses must be numbers of 0 or more, or null for jets")
        if len(set(names)) < len(names) or not 0 < len(names) <= MOST_PARTICLES:
            raise ValueError(f"names must be 1 to {MOST_PARTICLES} different ones")
        if not isinstance(cuts, dict) or set(cuts) != {"pt", "delta_r", "eta"}:
            raise ValueError("cuts must have pt, delta_r and eta")
        if not all(_is_number(value) for value in cuts.values()):
            raise ValueError("cuts must be numbers of 0 or more")
        limits = Cuts(**{name: float(value) for name, value in cuts.items()})
        return cls(tuple(names), tuple(None if m is None else float(m) for m in masses), limits)

    @property
    def jets(self) -> list[int]:
        """Which particles are jets."""
        return [i for i, mass in enumerate(self.masses) if mass is None]

    def passed(self, momenta: FloatArray) -> BoolArray:
        """Which events ``(N, P, 4)`` pass the cuts: ``(N,)``."""
        jets = momenta[:, self.jets]
        eta, phi = pseudorapidity(jets), azimuth(jets)
        kept: BoolArray = np.all(transverse_momentum(jets) > self.cuts.pt, axis=1)
        kept &= np.all(np.abs(eta) < self.cuts.eta, axis=1)
        first, second = np.triu_indices(jets.shape[1], 1)
        apart = distance(eta[:, first] - eta[:, second], phi[:, first] - phi[:, second])
        return kept & np.all(apart > self.cuts.delta_r, axis=1)


def transverse_momentum(p: FloatArray) -> FloatArray:
    """In GeV."""
    return np.hypot(p[..., 1], p[..., 2])


def azimuth(p: FloatArray) -> FloatArray:
    """In radians, from -pi to pi."""
    return np.arctan2(p[..., 2], p[..., 1])


def pseudorapidity(p: FloatArray) -> FloatArray:
    """Infinite along the beam."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.arcsinh(p[..., 3] / transverse_momentum(p))


def mass_squared(p: FloatArray) -> FloatArray:
    """In GeV^2."""
    return p[..., 0] ** 2 - (p[..., 1:] ** 2).sum(axis=-1)


def distance(eta: FloatArray, phi: FloatArray) -> FloatArray:
    """:math:`\\Delta R` of differences of pseudorapidity and azimuth."""
    turn = (phi + np.pi) % (2 * np.pi) - np.pi
    return np.hypot(eta, turn)
