"""Symmetry groups of particle physics, by samples of their elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.testing.transformations import (
    PARITY,
    TIME_REVERSAL,
    boost,
    random_lorentz,
    random_rotation,
    rotation,
)


class Group(NamedTuple):
    """A group, a way to draw elements, and the groups it contains.

    Parameters
    ----------
    name
        Symbol.
    meaning
        In words.
    draw
        Makes the n-th random element from a rapidity and a generator.
    contains
        Names of groups that are implied.
    """

    name: str
    meaning: str
    draw: Callable[[int, float, torch.Generator], Tensor]
    contains: tuple[str, ...]


def _angle(generator: torch.Generator) -> float:
    return 2 * math.pi * float(torch.rand((), generator=generator))


def _full(n: int, rapidity: float, generator: torch.Generator) -> Tensor:
    identity = torch.eye(4, dtype=torch.float64)
    parts = (PARITY, TIME_REVERSAL, PARITY @ TIME_REVERSAL, identity)
    return parts[n % 4] @ random_lorentz(rapidity, generator)


def _beam(n: int, rapidity: float, generator: torch.Generator) -> Tensor:
    return boost(rapidity if n % 2 else -rapidity) @ rotation(_angle(generator))


GROUPS = {
    group.name: group
    for group in (
        Group(
            "O(1,3)",
            "Lorentz group with parity and time reversal",
            _full,
            ("SO+(1,3)", "O(3)", "SO(3)", "SO(1,1) x SO(2)", "SO(2)"),
        ),
        Group(
            "SO+(1,3)",
            "rotations and boosts",
            lambda n, rapidity, generator: random_lorentz(rapidity, generator),
            ("SO(3)", "SO(1,1) x SO(2)", "SO(2)"),
        ),
        Group(
            "O(3)",
            "rotations and parity",
            lambda n, rapidity, generator: (
                random_rotation(generator) if n % 2 else PARITY @ random_rotation(generator)
            ),
            ("SO(3)", "SO(2)"),
        ),
        Group(
            "SO(3)",
            "rotations",
            lambda n, rapidity, generator: random_rotation(generator),
            ("SO(2)",),
        ),
        Group(
            "SO(1,1) x SO(2)",
            "boosts along the beam and rotations about it",
            _beam,
            ("SO(2)",),
        ),
        Group(
            "SO(2)",
            "rotations about the beam",
            lambda n, rapidity, generator: rotation(_angle(generator)),
            (),
        ),
    )
}
"""Groups by name, the larger before the smaller."""
