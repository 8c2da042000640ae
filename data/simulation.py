"""Jets of many kinds from Pythia 8 and FastJet, with identities and displacements of particles.

There is no detector simulation. Impact parameters are smeared by
:math:`\\sqrt{a^2 + (b / p_T)^2}` with a = 0.015 mm and b = 0.1 mm GeV, about what trackers
resolve; the same number is the stored uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

PARTICLE_ETA = 5.0
RESONANCES = (6, 23, 24, 25)
_SMEARING = (0.015, 0.1)  # mm, mm GeV

Table = npt.NDArray[np.float32]

COLUMNS = (
    "E", "px", "py", "pz", "charge", "is_charged_hadron", "is_neutral_hadron", "is_photon",
    "is_electron", "is_muon", "d0", "d0_error", "dz", "dz_error",
)  # fmt: skip
"""Of the table of a jet's constituents; units as in :mod:`data.columns`."""


class SimulatedJet(NamedTuple):
    """A jet.

    Parameters
    ----------
    table
        ``(n, COLUMNS)``, its constituents by falling pT.
    true_mass
        In GeV, of the resonance that decayed in it; without one, of all constituents.
    """

    table: Table
    true_mass: float


@dataclass(frozen=True)
class Process:
    """What is produced, and which jets of it are kept.

    Parameters
    ----------
    settings
        Lines for Pythia.
    resonance
        PDG number of the particle whose decay must lie inside the jet, or None.
    """

    settings: tuple[str, ...]
    resonance: int | None = None


@dataclass(frozen=True)
class Selection:
    """Clustering and kinematic range of jets.

    Parameters
    ----------
    radius
        Of the anti-kT algorithm.
    pt
        Lowest and highest transverse momentum in GeV.
    eta
        Largest pseudorapidity.
    energy
        Collision energy in GeV.
    pt_hat
        Range of the hard process's transverse momentum; None chooses it by that of the jets.
    """

    radius: float
    pt: tuple[float, float]
    eta: float
    energy: float = 14_000.0
    pt_hat: tuple[float, float] | None = None


def initialised(settings: Sequence[str], seed: int) -> Any:
    """A generator of proton-proton collisions, ready for events.

    Parameters
    ----------
    settings
        Lines for Pythia, beside beams and random numbers.
    seed
        From 1 to 900,000,000.
    """
    import pythia8mc

    pythia = pythia8mc.Pythia("", False)
    for line in (
        "Beams:idA = 2212",
        "Beams:idB = 2212",
        "PartonLevel:MPI = off",
        "Print:quiet = on",
        "Random:setSeed = on",
        *settings,
        f"Random:seed = {seed}",
    ):
        pythia.readString(line)
    if not pythia.init():
        raise RuntimeError(
            "Pythia does not start; if its data lie elsewhere than where pip puts them, set "
            "PYTHIA8DATA to their folder xmldoc"
        )
    return pythia


def start_pythia(process: Process, selection: Selection, seed: int) -> Any:
    """A generator of events with such jets."""
    low, high = selection.pt_hat or (0.87 * selection.pt[0], 1.3 * selection.pt[1])
    settings = (
        f"Beams:eCM = {selection.energy}",
        f"PhaseSpace:pTHatMin = {low}",
        f"PhaseSpace:pTHatMax = {high}",
        *process.settings,
    )
    return initialised(settings, seed)


def _daughters(event: Any, index: int) -> Iterator[int]:
    """Quarks, gluons and charged leptons that a resonance ends in."""
    last = event[index].iBotCopyId()
    for daughter in event[last].daughterList():
        kind = event[daughter].idAbs()
        if kind in RESONANCES:
            yield from _daughters(event, daughter)
        elif kind <= 5 or kind in (11, 13, 15, 21):
            yield daughter


def decays(event: Any, resonance: int) -> Iterator[tuple[float, list[tuple[float, float]]]]:
    """Mass of each such particle, and directions (eta, phi) of its decay products."""
    for index in range(event.size()):
        particle = event[index]
        if particle.idAbs() == resonance and particle.iBotCopyId() == index:
            directions = [(event[d].eta(), event[d].phi()) for d in _daughters(event, index)]
            yield float(particle.m()), directions


def delta_r(eta: float, phi: float, other: tuple[float, float]) -> float:
    """Distance of two directions."""
    difference = abs(phi - other[1]) % (2 * np.pi)
    return float(np.hypot(eta - other[0], min(difference, 2 * np.pi - difference)))


def _row(p: Any, rng: np.random.Generator) -> list[float]:
    kind, charge = p.idAbs(), p.charge()
    hadron = kind > 100
    flags = [
        charge, hadron and charge != 0, hadron and charge == 0, kind == 22, kind == 11, kind == 13,
    ]  # fmt: skip
    displacement = [0.0] * 4
    if charge:
        a, b = _SMEARING
        error = float(np.hypot(a, b / p.pT()))
        # Closest approach to the beam along a straight line from the production vertex.
        x, y, ux, uy = p.xProd(), p.yProd(), p.px() / p.pT(), p.py() / p.pT()
        d0 = x * uy - y * ux + rng.normal(0, error)
        dz = p.zProd() - (x * ux + y * uy) * p.pz() / p.pT() + rng.normal(0, error)
        displacement = [d0, error, dz, error]
    return [p.e(), p.px(), p.py(), p.pz(), *map(float, flags), *displacement]


def find_jet(
    event: Any, process: Process, selection: Selection, rng: np.random.Generator
) -> SimulatedJet | None:
    """The leading accepted jet of an event."""
    import fastjet

    seen = [p for p in event if p.isFinal() and p.isVisible() and abs(p.eta()) < PARTICLE_ETA]
    inputs = []
    for number, p in enumerate(seen):
        momentum = fastjet.PseudoJet(p.px(), p.py(), p.pz(), p.e())
        momentum.set_user_index(number)
        inputs.append(momentum)
    algorithm = fastjet.JetDefinition(fastjet.antikt_algorithm, selection.radius)
    sequence = fastjet.ClusterSequence(inputs, algorithm)
    low, high = selection.pt
    resonance = process.resonance
    matches = list(decays(event, resonance)) if resonance else []
    for jet in fastjet.sorted_by_pt(sequence.inclusive_jets(low)):
        if jet.pt() > high or abs(jet.eta()) > selection.eta:
            continue
        eta, phi = jet.eta(), jet.phi_std()
        masses = [
            mass
            for mass, directions in matches
            if directions and all(delta_r(eta, phi, d) < selection.radius for d in directions)
        ]
        if resonance and not masses:
            continue
        parts = fastjet.sorted_by_pt(jet.constituents())
        table = np.array([_row(seen[p.user_index()], rng) for p in parts], dtype=np.float32)
        return SimulatedJet(table, masses[0] if masses else float(jet.m()))
    return None


def make_jets(process: Process, selection: Selection, seed: int, count: int) -> list[SimulatedJet]:
    """``count`` jets of one kind, the same for the same seed."""
    pythia, rng = start_pythia(process, selection, seed), np.random.default_rng(seed)
    jets: list[SimulatedJet] = []
    while len(jets) < count:
        if pythia.next():
            jet = find_jet(pythia.event, process, selection, rng)
            if jet is not None:
                jets.append(jet)
    return jets
