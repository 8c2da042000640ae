"""Write events for other programs: LHE and HepMC3, one event after the other.

Jets have the number of a gluon, and those that are called after bottom quarks (``b1``) of one;
muons their own. Both formats want to know what collided: two protons (HepMC3), or two gluons with
the energy and the longitudinal momentum of the event (LHE), whose transverse momentum is not
balanced.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError, install_hint
from data.events.final_state import FinalState, FloatArray, mass_squared

BEAM_ENERGY = 6500.0
"""GeV."""
_GLUON, _BOTTOM, _MUON, _PROTON = 21, 5, 13, 2212
_INCOMING, _OUTGOING = -1, 1


def pdg_number(name: str, mass: float | None) -> int:
    """The number of the Particle Data Group of a particle by its name."""
    known = {"mu-": _MUON, "mu+": -_MUON, "b1": _BOTTOM, "b2": -_BOTTOM}
    return known.get(name, _GLUON)


def _masses(event: FloatArray) -> FloatArray:
    return np.sqrt(np.maximum(mass_squared(event), 0.0))


class LheFile:
    """A Les Houches event file (hep-ph/0609017), written event by event."""

    def __init__(self, path: Path, state: FinalState) -> None:
        self._file = open(path, "w", encoding="ascii")
        self._numbers = [pdg_number(n, m) for n, m in zip(state.names, state.masses, strict=True)]
        beams = f"{_PROTON} {_PROTON} {BEAM_ENERGY:.8e} {BEAM_ENERGY:.8e}"
        self._file.write(
            f'<LesHouchesEvents version="1.0">\n<init>\n{beams} 0 0 0 0 3 1\n'
            "1.0 0.0 1.0 1\n</init>\n"
        )

    def write(self, events: FloatArray) -> None:
        """Append events ``(N, P, 4)``."""
        for event in events:
            energy, pz = float(event[:, 0].sum()), float(event[:, 3].sum())
            scale = math.sqrt(max(energy**2 - pz**2, 0.0))
            head = f"{len(event) + 2} 1 1.0 {scale:.8e} 7.8e-03 1.1e-01"
            lines = ["<event>", head]
            for sign in (1, -1):
                size = max((energy + sign * pz) / 2, 0.0)
                lines.append(
                    self._line(_GLUON, _INCOMING, (0, 0), (size, 0.0, 0.0, sign * size), 0.0)
                )
            for number, p, mass in zip(self._numbers, event, _masses(event), strict=True):
                lines.append(self._line(number, _OUTGOING, (1, 2), p, mass))
            self._file.write("\n".join([*lines, "</event>\n"]))

    @staticmethod
    def _line(number: int, status: int, mothers: tuple[int, int], p: Any, mass: float) -> str:
        momentum = " ".join(f"{x:.10e}" for x in (p[1], p[2], p[3], p[0], mass))
        return f"{number} {status} {mothers[0]} {mothers[1]} 0 0 {momentum} 0 9"

    def close(self) -> None:
        """Write the end."""
        self._file.write("</LesHouchesEvents>\n")
        self._file.close()


class HepMcFile:
    """A HepMC3 file in ASCII, written by pyhepmc."""

    def __init__(self, path: Path, state: FinalState) -> None:
        pyhepmc = _pyhepmc()
        self._hepmc, self._count = pyhepmc, 0
        self._numbers = [pdg_number(n, m) for n, m in zip(state.names, state.masses, strict=True)]
        self._file = pyhepmc.io.WriterAscii(str(path))

    def write(self, events: FloatArray) -> None:
        """Append events ``(N, P, 4)``."""
        hepmc = self._hepmc
        for momenta in events:
            event = hepmc.GenEvent(hepmc.Units.GEV, hepmc.Units.MM)
            event.event_number = self._count
            vertex = hepmc.GenVertex()
            for sign in (1, -1):
                momentum = (0.0, 0.0, sign * BEAM_ENERGY, BEAM_ENERGY)
                vertex.add_particle_in(hepmc.GenParticle(momentum, _PROTON, 4))
            for number, p, mass in zip(self._numbers, momenta, _masses(momenta), strict=True):
                particle = hepmc.GenParticle((p[1], p[2], p[3], p[0]), number, 1)
                particle.generated_mass = mass
                vertex.add_particle_out(particle)
            event.add_vertex(vertex)
            self._file.write(event)
            self._count += 1

    def close(self) -> None:
        """Write the end."""
        self._file.close()


def _pyhepmc() -> Any:
    try:
        import pyhepmc
    except ImportError as error:
        raise DataError(f"pyhepmc is missing; {install_hint('hepmc')}") from error
    return pyhepmc


WRITERS: dict[str, Any] = {".lhe": LheFile, ".hepmc": HepMcFile}
"""What writes files by their suffix."""


def write_events(path: Path, state: FinalState, chunks: Iterable[FloatArray]) -> None:
    """Write a whole file; the suffix chooses the format."""
    file = WRITERS[path.suffix](path, state)
    try:
        for events in chunks:
            file.write(events)
    finally:
        file.close()
