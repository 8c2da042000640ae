"""Events of flat phase space (RAMBO) with cuts as at colliders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.amplitudes.arrays import BoolArray, FloatArray

_MOST_STEPS = 50
_PRECISION = 1e-14


def massless(energy: FloatArray, particles: int, random: np.random.Generator) -> FloatArray:
    """Momenta of massless particles, uniform in phase space (RAMBO, Comput. Phys. Commun. 40, 359).

    Parameters
    ----------
    energy
        Energy in the centre-of-mass frame, ``(events,)``.
    particles
        How many, at least two.
    random
        Source of random numbers.

    Returns
    -------
    ``(events, particles, 4)``; the momenta add up to ``(energy, 0, 0, 0)``.
    """
    shape = len(energy), particles
    cos = random.uniform(-1.0, 1.0, shape)
    phi = random.uniform(0.0, 2 * np.pi, shape)
    e = -np.log(random.uniform(size=shape) * random.uniform(size=shape))
    sin = np.sqrt((1 - cos) * (1 + cos))
    q = np.stack([e, e * sin * np.cos(phi), e * sin * np.sin(phi), e * cos], axis=-1)
    # All are boosted into the frame in which they are at rest together, and scaled.
    total = q.sum(axis=1)
    mass = np.sqrt(total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(axis=1))
    velocity = -total[:, 1:] / mass[:, None]
    gamma = total[:, 0] / mass
    along = np.einsum("nij,nj->ni", q[..., 1:], velocity)
    boosted = np.empty_like(q)
    boosted[..., 0] = gamma[:, None] * q[..., 0] + along
    factor = q[..., 0] + along / (1 + gamma)[:, None]
    boosted[..., 1:] = q[..., 1:] + factor[..., None] * velocity[:, None]
    boosted *= (energy / mass)[:, None, None]
    # From the momenta, so that squared masses are zero up to the last digit.
    boosted[..., 0] = np.sqrt((boosted[..., 1:] ** 2).sum(axis=-1))
    return boosted


def massive(momenta: FloatArray, energy: FloatArray, masses: Sequence[float]) -> FloatArray:
    """Give massless particles masses: all three-momenta are scaled by one factor.

    Parameters
    ----------
    momenta
        ``(events, particles, 4)`` of :func:`massless`.
    energy
        Energy in the centre-of-mass frame, ``(events,)``, above the sum of the masses.
    masses
        In GeV, one for each particle.
    """
    m2 = np.square(np.asarray(masses, dtype=np.float64))
    if not m2.any():
        return momenta
    p2 = (momenta[..., 1:] ** 2).sum(axis=-1)
    scale = np.sqrt(1 - (np.sum(masses) / energy) ** 2)
    for _ in range(_MOST_STEPS):  # Newton's method
        e = np.sqrt(m2 + scale[:, None] ** 2 * p2)
        excess = e.sum(axis=1) - energy
        scale = scale - excess / (scale * (p2 / e).sum(axis=1))
        if np.abs(excess).max(initial=0.0) <= _PRECISION * np.max(energy, initial=0.0):
            break
    spatial = scale[:, None, None] * momenta[..., 1:]
    e = np.sqrt(m2 + (spatial**2).sum(axis=-1))
    return np.concatenate([e[..., None], spatial], axis=-1)


@dataclass(frozen=True)
class Cuts:
    """What outgoing massless particles must satisfy, as jets at a collider.

    Parameters
    ----------
    pt
        Smallest transverse momentum in GeV.
    delta_r
        Smallest distance :math:`\\Delta R` between any two.
    """

    pt: float = 20.0
    delta_r: float = 0.4

    def passed(self, jets: FloatArray) -> BoolArray:
        """Which events pass, ``(events,)``, by momenta ``(events, jets, 4)`` of the jets."""
        pt = np.hypot(jets[..., 1], jets[..., 2])
        size = np.sqrt(pt**2 + jets[..., 3] ** 2)
        with np.errstate(divide="ignore"):
            eta = np.arctanh(np.clip(jets[..., 3] / size, -1, 1))
        phi = np.arctan2(jets[..., 2], jets[..., 1])
        kept: BoolArray = np.all(pt > self.pt, axis=1)
        for i in range(jets.shape[1]):
            for j in range(i):
                turn = (phi[:, i] - phi[:, j] + np.pi) % (2 * np.pi) - np.pi
                with np.errstate(invalid="ignore"):
                    kept &= np.hypot(eta[:, i] - eta[:, j], turn) > self.delta_r
        return kept


def beams(energy: FloatArray) -> FloatArray:
    """Incoming massless particles along the z axis, ``(events, 2, 4)``."""
    half, zero = energy / 2, np.zeros_like(energy)
    return np.stack(
        [np.stack([half, zero, zero, sign * half], axis=-1) for sign in (1.0, -1.0)], axis=1
    )
