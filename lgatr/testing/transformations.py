"""Lorentz transformations as matrices ``(4, 4)``, float64, acting on (E, px, py, pz)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

PARITY = torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64))
TIME_REVERSAL = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
BEAM = (0.0, 0.0, 1.0)


def _unit(vector: Sequence[float] | Tensor) -> Tensor:
    direction = torch.as_tensor(vector, dtype=torch.float64)
    length = direction.norm()
    if direction.shape != (3,) or not length > 0:
        raise ValueError(f"a direction has three components, not all zero; got {vector}")
    return direction / length


def boost(rapidity: float, direction: Sequence[float] | Tensor = BEAM) -> Tensor:
    """The boost along ``direction``; a rapidity of 2 is a Lorentz factor of 3.8."""
    n = _unit(direction)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[0, 0] = math.cosh(rapidity)
    matrix[0, 1:] = matrix[1:, 0] = math.sinh(rapidity) * n
    matrix[1:, 1:] += (math.cosh(rapidity) - 1.0) * torch.outer(n, n)
    return matrix


def rotation(angle: float, axis: Sequence[float] | Tensor = BEAM) -> Tensor:
    """The rotation about ``axis`` by ``angle`` in radians (Rodrigues)."""
    x, y, z = _unit(axis).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[1:, 1:] += math.sin(angle) * cross + (1.0 - math.cos(angle)) * (cross @ cross)
    return matrix


def random_rotation(generator: torch.Generator | None = None) -> Tensor:
    """A rotation drawn uniformly from SO(3)."""
    a, b, c, d = _unit_quaternion(generator).tolist()
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[1:, 1:] = torch.tensor(
        [
            [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
        ],
        dtype=torch.float64,
    )
    return matrix


def _unit_quaternion(generator: torch.Generator | None) -> Tensor:
    quaternion = torch.randn(4, dtype=torch.float64, generator=generator)
    return quaternion / quaternion.norm()


def random_boost(rapidity: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """A boost of that rapidity in a random direction."""
    return boost(rapidity, torch.randn(3, dtype=torch.float64, generator=generator))


def random_lorentz(rapidity: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """A random element of SO+(1,3): rotation, boost of that rapidity, rotation."""
    first, second = random_rotation(generator), random_rotation(generator)
    return first @ random_boost(rapidity, generator) @ second


def random_momenta(
    events: int = 8, items: int = 12, generator: torch.Generator | None = None
) -> Tensor:
    """Four-momenta of order one with masses between 0.1 and 1: ``(events, items, 4)``, float64."""
    momenta = torch.randn(events, items, 3, dtype=torch.float64, generator=generator)
    mass = 0.1 + 0.9 * torch.rand(events, items, 1, dtype=torch.float64, generator=generator)
    energy = (momenta.square().sum(-1, keepdim=True) + mass.square()).sqrt()
    return torch.cat([energy, momenta], dim=-1)
