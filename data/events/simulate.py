"""Simulate events with Pythia 8, and jets with FastJet. There is no detector, and no pile-up."""

from __future__ import annotations

from typing import Any

import numpy as np

from data.events.final_state import MUON_MASS, FloatArray, distance
from data.events.processes import Process
from data.simulation import initialised

ENERGY = 13_000.0
"""Of the collision, in GeV."""
RADIUS = 0.4
"""Of the anti-kT algorithm."""
_LARGEST_ETA = 5.5
"""Of the particles that are clustered: jets at the edge are whole."""
_TAG_PT, _TAG_RADIUS = 5.0, 0.3


def _momentum(p: Any) -> list[float]:
    return [p.e(), p.px(), p.py(), p.pz()]


def _is_bottom_hadron(kind: int) -> bool:
    return kind > 100 and 5 in (kind // 100 % 10, kind // 1000 % 10)


def _muons(event: Any) -> list[int]:
    """The two final muons of the Z boson, the negative one first; empty if one is missing."""
    found = {}
    for index in range(event.size()):
        if event[index].id() in (13, -13) and event[index].mother1():
            mother = event[event[index].mother1()]
            if mother.id() == 23:
                found[event[index].id()] = event[index].iBotCopyId()
    return [found[kind] for kind in (13, -13)] if len(found) == 2 else []


def _on_shell(momentum: list[float], mass: float) -> list[float]:
    size = sum(x * x for x in momentum[1:])
    return [float(np.sqrt(mass * mass + size)), *momentum[1:]]


def reconstruct(event: Any, process: Process) -> FloatArray | None:
    """Particles ``(P, 4)`` of an event, or None if it does not pass.

    An event passes with exactly as many jets above the cut on transverse momentum as the process
    has, all of which pass the others, and of which as many as wanted have a bottom hadron of more
    than 5 GeV within 0.3 of the axis.
    """
    import fastjet

    muons = _muons(event) if process.muons else []
    if process.muons and not muons:
        return None
    inputs = []
    for index in range(event.size()):
        p = event[index]
        if p.isFinal() and p.isVisible() and index not in muons and abs(p.eta()) < _LARGEST_ETA:
            inputs.append(fastjet.PseudoJet(p.px(), p.py(), p.pz(), p.e()))
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
    sequence = fastjet.ClusterSequence(inputs, definition)
    found = [
        jet
        for jet in fastjet.sorted_by_pt(sequence.inclusive_jets(process.cuts.pt))
        if abs(jet.eta()) < process.cuts.eta
    ]
    if len(found) != process.jets:
        return None
    tagged = [False] * len(found)
    if process.tagged is not None:
        hadrons = [
            (p.eta(), p.phi())
            for p in (event[i] for i in range(event.size()))
            if _is_bottom_hadron(p.idAbs()) and p.pT() > _TAG_PT
        ]
        for number, jet in enumerate(found):
            tagged[number] = any(
                distance(jet.eta() - eta, jet.phi_std() - phi) < _TAG_RADIUS for eta, phi in hadrons
            )
        if sum(tagged) != process.tagged:
            return None
    jets = np.array([[j.e(), j.px(), j.py(), j.pz()] for j in found]).reshape(-1, 4)
    ordered = process.order(jets, tagged)
    leptons = [_on_shell(_momentum(event[i]), MUON_MASS) for i in muons]
    particles = np.concatenate([np.array(leptons).reshape(-1, 4), ordered])
    return particles if process.final_state.passed(particles[None])[0] else None


def make_events(process: Process, seed: int, count: int) -> FloatArray:
    """``(count, P, 4)`` events, the same for the same seed."""
    settings = (f"Beams:eCM = {ENERGY}", *process.settings)
    pythia = initialised(settings, seed)
    found: list[FloatArray] = []
    while len(found) < count:
        if pythia.next() and (event := reconstruct(pythia.event, process)) is not None:
            found.append(event)
    return np.stack(found)
