"""Processes whose amplitudes are known here, and events of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.amplitudes import gluons, phase_space, z_boson
from data.amplitudes.arrays import FloatArray
from data.amplitudes.phase_space import Cuts
from data.errors import DataError

CHUNK = 10_000
"""Events drawn at a time, each with a seed of its own."""

_MOST_EMPTY = 100
"""Chunks without an event that passes the cuts, after which these are taken to reject all."""


@dataclass(frozen=True)
class Process:
    """A scattering of two massless particles.

    Parameters
    ----------
    title
        As it is written in papers.
    types
        A number for each particle, the same for particles of one kind.
    masses
        In GeV, one for each particle.
    squared_amplitude
        Of momenta ``(events, particles, 4)``.
    """

    title: str
    types: tuple[int, ...]
    masses: tuple[float, ...]
    squared_amplitude: Callable[[FloatArray], FloatArray]

    @property
    def jets(self) -> list[int]:
        """Outgoing massless particles, which cuts apply to."""
        return [i for i in range(2, len(self.masses)) if self.masses[i] == 0.0]


def _gluons(n: int, title: str) -> Process:
    return Process(title, (0,) * n, (0.0,) * n, gluons.squared_amplitude)


PROCESSES = {
    "zg": Process(
        "q qbar -> Z g", (0, 0, 1, 2), (0.0, 0.0, z_boson.MASS, 0.0), z_boson.squared_amplitude
    ),
    "gggg": _gluons(4, "g g -> g g"),
    "ggggg": _gluons(5, "g g -> g g g"),
    "gggggg": _gluons(6, "g g -> g g g g, MHV sector"),
}


class Events(NamedTuple):
    """Momenta ``(events, particles, 4)`` in GeV and squared amplitudes ``(events,)``."""

    momenta: FloatArray
    amplitudes: FloatArray


def generate(
    process: Process, events: int, seed: int, energy: tuple[float, float], cuts: Cuts
) -> Iterator[Events]:
    """Events of flat phase space that pass the cuts, in chunks, ``events`` in all.

    The first events do not depend on how many there are.

    Parameters
    ----------
    process
        What scatters.
    events
        How many.
    seed
        Of the random numbers.
    energy
        Bounds of the energy in the centre-of-mass frame in GeV, in which it is uniform.
    cuts
        For outgoing massless particles, in that frame.

    Raises
    ------
    DataError
        If the energy is below the masses, or no event passes the cuts.
    """
    if energy[0] <= sum(process.masses):
        raise DataError(
            f"an energy of {energy[0]:g} GeV is not above the masses of the outgoing particles, "
            f"{sum(process.masses):g} GeV together"
        )
    left, empty, number = events, 0, 0
    while left:
        random = np.random.default_rng([seed, number])
        found = _chunk(process, random, energy, cuts)
        number += 1
        empty = 0 if len(found.amplitudes) else empty + 1
        if empty == _MOST_EMPTY:
            raise DataError(
                f"none of {empty * CHUNK:,} events passes the cuts (pT above {cuts.pt:g} GeV, "
                f"Delta R above {cuts.delta_r:g}); loosen them, or raise the energy"
            )
        taken = Events(*(x[:left] for x in found))
        left -= len(taken.amplitudes)
        yield taken


def _chunk(
    process: Process, random: np.random.Generator, energy: tuple[float, float], cuts: Cuts
) -> Events:
    total = random.uniform(*energy, CHUNK)
    outgoing = phase_space.massless(total, len(process.masses) - 2, random)
    outgoing = phase_space.massive(outgoing, total, process.masses[2:])
    kept = cuts.passed(outgoing[:, [i - 2 for i in process.jets]])
    momenta = np.concatenate([phase_space.beams(total), outgoing], axis=1)[kept]
    return Events(momenta, process.squared_amplitude(momenta))
