"""Which events can be simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.events.assignment import assign_tops
from data.events.final_state import MUON_MASS, Cuts, FinalState, FloatArray

TOPS = ("b1", "q1", "q2", "b2", "q3", "q4")
MOST_JETS = 4


@dataclass(frozen=True)
class Process:
    """Events of one kind.

    Parameters
    ----------
    title
        For people.
    settings
        Lines for Pythia.
    muons
        Whether two muons of opposite charge come first, the negative one before the other.
    jets
        How many jets there are.
    tagged
        How many of them have a bottom hadron.
    cuts
        On the jets; the distance at least that of the jets' radius.
    order
        Brings jets ``(jets, 4)``, sorted by falling transverse momentum, into the order of the
        particles, by whether each has a bottom hadron.
    final_state
        What an event is then.
    """

    title: str
    settings: tuple[str, ...]
    muons: bool
    jets: int
    tagged: int | None
    cuts: Cuts
    order: Callable[[FloatArray, list[bool]], FloatArray]
    final_state: FinalState


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"j{i + 1}" for i in range(count))


def top_pairs(jets: int) -> Process:
    """Pairs of top quarks that decay hadronically, and further jets (arXiv:2411.00446)."""
    cuts = Cuts(pt=22.0, delta_r=0.5, eta=5.0)
    names = (*TOPS, *_numbered(jets))
    return Process(
        title=f"p p -> t tbar{' + ' * bool(jets)}{f'{jets} jets' * bool(jets)}",
        settings=(
            "Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off",
            "24:onIfAny = 1 2 3 4 5",
        ),
        muons=False,
        jets=6 + jets,
        tagged=2,
        cuts=cuts,
        order=assign_tops,
        final_state=FinalState(names, (None,) * len(names), cuts),
    )  # fmt: skip


def _as_they_are(jets: FloatArray, tagged: list[bool]) -> FloatArray:
    return jets


def z_bosons(jets: int) -> Process:
    """Z bosons that decay into muons, and jets (arXiv:2110.13632)."""
    cuts = Cuts(pt=20.0, delta_r=0.4, eta=5.0)
    names = ("mu-", "mu+", *_numbered(jets))
    return Process(
        title=f"p p -> Z (mu mu) + {jets} jets",
        settings=(
            "WeakBosonAndParton:qqbar2gmZg = on", "WeakBosonAndParton:qg2gmZq = on",
            "WeakZ0:gmZmode = 2", "23:onMode = off", "23:onIfAny = 13",
            "PhaseSpace:pTHatMin = 15", "PhaseSpace:mHatMin = 60",
        ),
        muons=True,
        jets=jets,
        tagged=None,
        cuts=cuts,
        order=_as_they_are,
        final_state=FinalState(names, (MUON_MASS, MUON_MASS) + (None,) * jets, cuts),
    )  # fmt: skip


PROCESSES: dict[str, tuple[Callable[[int], Process], tuple[int, ...]]] = {
    "ttbar": (top_pairs, tuple(range(MOST_JETS + 1))),
    "zmumu": (z_bosons, (1, 2, 3)),
}
"""What makes a process of a number of jets, and which numbers there are."""


def process_of(name: str, jets: int) -> Process:
    """A process by its name and number of jets beside what decays."""
    make, _ = PROCESSES[name]
    return make(jets)


def detected(momenta: FloatArray, random: np.random.Generator) -> FloatArray:
    """Jets ``(N, P, 4)`` as a calorimeter sees them.

    A stand-in for a detector: energies are smeared by 80 % / sqrt(E / GeV) and 5 %, added in
    squares, masses by the same factor and another 10 %, and directions by 0.02 in pseudorapidity
    and azimuth.

    Parameters
    ----------
    momenta
        Jets of particles, in GeV.
    random
        Source of random numbers.
    """
    energy = momenta[..., 0]
    width = np.hypot(0.8 / np.sqrt(energy), 0.05)
    scale = np.exp(width * random.normal(size=energy.shape) - width**2 / 2)
    square = energy**2 - (momenta[..., 1:] ** 2).sum(axis=-1)
    mass = np.sqrt(np.maximum(square, 0.0)) * scale * np.exp(0.1 * random.normal(size=energy.shape))
    pt = np.hypot(momenta[..., 1], momenta[..., 2]) * scale
    eta = np.arcsinh(momenta[..., 3] * scale / pt) + 0.02 * random.normal(size=energy.shape)
    phi = np.arctan2(momenta[..., 2], momenta[..., 1]) + 0.02 * random.normal(size=energy.shape)
    x, y, z = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return np.stack([np.sqrt(mass**2 + x**2 + y**2 + z**2), x, y, z], axis=-1)
