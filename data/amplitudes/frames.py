"""Frames of reference: to the centre of mass, and from there to random ones.

Amplitudes are the same in all frames. Matrices are written out here, without the algebra that the
networks use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.amplitudes.arrays import FloatArray

MOST = 0.19
"""Largest standard deviation of velocities: three of them in each direction are below light's."""
_CUT = 3.0


def boosts(velocity: FloatArray) -> FloatArray:
    """Matrices ``(events, 4, 4)`` that give what is at rest these velocities ``(events, 3)``."""
    square = (velocity**2).sum(axis=1)
    gamma = 1.0 / np.sqrt(1.0 - square)
    # (gamma - 1) / v^2 without the difference, which cancels at small velocities.
    factor = gamma**2 / (1.0 + gamma)
    found = np.empty((len(velocity), 4, 4))
    found[:, 0, 0] = gamma
    found[:, 0, 1:] = found[:, 1:, 0] = gamma[:, None] * velocity
    outer = velocity[:, :, None] * velocity[:, None, :]
    found[:, 1:, 1:] = np.eye(3) + factor[:, None, None] * outer
    return found


def rotations(events: int, random: np.random.Generator) -> FloatArray:
    """Matrices ``(events, 4, 4)`` of rotations, uniform over all (from unit quaternions)."""
    q = random.normal(size=(events, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    found = np.zeros((events, 4, 4))
    found[:, 0, 0] = 1.0
    found[:, 1] = np.stack(
        [0 * w, 1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], 1
    )
    found[:, 2] = np.stack(
        [0 * w, 2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], 1
    )
    found[:, 3] = np.stack(
        [0 * w, 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], 1
    )
    return found


def transformed(momenta: FloatArray, matrices: FloatArray) -> FloatArray:
    """Momenta ``(events, particles, 4)``, each event by its matrix ``(events, 4, 4)``."""
    return np.einsum("nij,npj->npi", matrices, momenta)


def at_rest(momenta: FloatArray) -> FloatArray:
    """Events ``(events, particles, 4)`` in the frame where their two first particles are at rest.

    Events that are there already are returned as they are, up to rounding.
    """
    total = momenta[:, :2].sum(axis=1)
    return transformed(momenta, boosts(-total[:, 1:] / total[:, :1]))


def on_shell(momenta: FloatArray, masses: Sequence[float]) -> FloatArray:
    """Events with the energies that momenta and masses give.

    Files in float32 are off shell by rounding, which a boost of light particles would magnify.

    Parameters
    ----------
    momenta
        ``(events, particles, 4)``.
    masses
        One for each particle.
    """
    found = momenta.copy()
    square = (momenta[..., 1:] ** 2).sum(axis=-1) + np.square(masses)
    found[..., 0] = np.sqrt(square)
    return found


def in_random_frames(
    momenta: FloatArray, velocity: float, random: np.random.Generator
) -> FloatArray:
    """Each event in a frame of its own: rotated, then boosted.

    Parameters
    ----------
    momenta
        ``(events, particles, 4)``.
    velocity
        Standard deviation of each component of the frame's velocity, in units of that of light, at
        most :data:`MOST`; components beyond three of them are drawn again (arXiv:2505.20280).
    random
        Source of random numbers.
    """
    found = random.normal(size=(len(momenta), 3))
    while (outside := np.abs(found) > _CUT).any():
        found[outside] = random.normal(size=int(outside.sum()))
    matrices = boosts(velocity * found) @ rotations(len(momenta), random)
    return transformed(momenta, matrices)
