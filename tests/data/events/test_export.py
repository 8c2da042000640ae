"""Events for other programs, read back by readers that are not ours."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from data.events.export import write_events
from data.events.final_state import MUON_MASS, Cuts, FinalState
from support.flows import momenta

STATE = FinalState(("mu-", "mu+", "b1", "j1"), (MUON_MASS, MUON_MASS, None, None),
                   Cuts(20.0, 0.4, 5.0))  # fmt: skip
NUMBERS = [13, -13, 5, 21]


def events():
    return momenta(STATE, 25).numpy()


def test_lhe(tmp_path):
    """By an XML parser, and columns by the standard (hep-ph/0609017)."""
    wanted = events()
    write_events(tmp_path / "x.lhe", STATE, [wanted[:10], wanted[10:]])
    root = ET.parse(tmp_path / "x.lhe").getroot()
    found = root.findall("event")
    assert root.attrib["version"] == "1.0" and len(found) == 25
    for event, p in zip(found, wanted, strict=True):
        head, *lines = event.text.split("\n")[1:-1]
        assert int(head.split()[0]) == len(lines) == 6
        columns = np.array([[float(x) for x in line.split()] for line in lines])
        out = columns[columns[:, 1] == 1]
        assert out[:, 0].tolist() == NUMBERS
        np.testing.assert_allclose(out[:, [9, 6, 7, 8]], p, rtol=1e-9)
        np.testing.assert_allclose(out[:2, 10], MUON_MASS, rtol=1e-3)
        incoming = columns[columns[:, 1] == -1]
        balance = incoming[:, [9, 8]].sum(0) - p[:, [0, 3]].sum(0)
        assert np.abs(balance).max() < 1e-5


def test_hepmc(tmp_path):
    """By its text, and by the reader of the library."""
    pyhepmc = pytest.importorskip("pyhepmc")
    wanted = events()
    write_events(tmp_path / "x.hepmc", STATE, [wanted])
    text = (tmp_path / "x.hepmc").read_text()
    assert text.count("\nE ") == 25 and "U GEV MM" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("P ")]
    final = np.array([[float(x) for x in row[4:9]] for row in rows if row[-1] == "1"])
    np.testing.assert_allclose(final[:, [3, 0, 1, 2]].reshape(25, 4, 4), wanted, rtol=1e-9)
    with pyhepmc.open(tmp_path / "x.hepmc") as file:
        for event, p in zip(file, wanted, strict=True):
            out = [particle for particle in event.particles if particle.status == 1]
            assert [particle.pid for particle in out] == NUMBERS
            for particle, q in zip(out, p, strict=True):
                m = particle.momentum
                np.testing.assert_allclose([m.e, m.px, m.py, m.pz], q, rtol=1e-9)
