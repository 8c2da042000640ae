"""Files with one entry for each event: NanoAOD's pairs of numbers, and references of Delphes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.described.description import EventsOfJets, described
from data.described.per_jet import per_jet
from data.described.reader import Reader
from data.errors import DataError

ak = pytest.importorskip("awkward")
uproot = pytest.importorskip("uproot")

PT = ak.Array([[10.0, 11.0, 12.0], [], [20.0, 21.0]])
JET_PT = ak.Array([[21.0, 12.0], [], [41.0]])
PAIRS = {
    "FatJetPFCands_jetIdx": ak.Array([[1, 0, 0, -1], [], [0, 0]]),
    "FatJetPFCands_pFCandsIdx": ak.Array([[2, 0, 1, 0], [], [1, 0]]),
}
RUN = np.array([7, 8, 9])
NANO = EventsOfJets("FatJet_", "PFCands_", pairs=tuple(PAIRS))
EXPECTED = [[10.0, 11.0], [12.0], [21.0, 20.0]]


def fields(**changed):
    return {"FatJet_pt": JET_PT, "PFCands_pt": PT, "run": ak.Array(RUN), **PAIRS, **changed}


def test_pairs_of_numbers():
    found = per_jet(Path("x"), NANO, fields())
    assert found["PFCands_pt"].to_list() == EXPECTED
    assert found["FatJet_pt"].to_list() == [21.0, 12.0, 41.0]
    assert found["run"].to_list() == [7, 7, 9] and "FatJetPFCands_jetIdx" not in found


def test_references():
    events = EventsOfJets("J.", "P.", references=("J.Constituents", "P.id"))
    found = per_jet(
        Path("x"),
        events,
        {
            "J.PT": JET_PT, "P.PT": PT, "P.id": ak.Array([[5, 9, 2], [], [4, 3]]),
            "J.Constituents": ak.Array([[[5, 9], [2]], [], [[3, 4]]]),
        },
    )  # fmt: skip
    assert found["P.PT"].to_list() == EXPECTED


@pytest.mark.parametrize(
    "changed",
    [
        {"FatJetPFCands_pFCandsIdx": ak.Array([[2, 0, 3, 0], [], [1, 0]])},
        {"FatJetPFCands_jetIdx": ak.Array([[2, 0, 0, -1], [], [0, 0]])},
    ],
)
def test_links_to_what_is_not_there(changed):
    with pytest.raises(DataError, match="event 0 links jets and particles that it does not have"):
        per_jet(Path("x"), NANO, fields(**changed))
    events = EventsOfJets("J.", "P.", references=("J.C", "P.id"))
    with pytest.raises(DataError, match="event 0 has a jet with particles that it does not have"):
        values = {
            "J.PT": JET_PT,
            "P.id": ak.Array([[5, 9, 2], [], [4, 3]]),
            "J.C": ak.Array([[[1]]]),
        }
        per_jet(Path("x"), events, values)
    with pytest.raises(DataError, match="no field that begins with 'FatJet_'"):
        per_jet(Path("x"), NANO, {"PFCands_pt": PT, **PAIRS})


def test_files_of_events(tmp_path):
    """Jets are counted through events, some of which have none."""
    path = tmp_path / "nano.root"
    branches = {**fields(), "PFCands_eta": PT * 0 + 1, "PFCands_phi": PT * 0}
    with uproot.recreate(path) as file:
        types = {n: v.type if v.ndim > 1 else np.asarray(v).dtype for n, v in branches.items()}
        file.mktree("Events", types)
        file["Events"].extend(branches)
    plain = {
        "tree": "Events",
        "events": {"jets": "FatJet_", "particles": "PFCands_", "pairs": list(PAIRS)},
        "momenta": {name: f"PFCands_{name}" for name in ("pt", "eta", "phi")},
        "jets": {"pt": "FatJet_pt", "run": "run"},
    }
    reader = Reader(described(plain))
    assert reader.count(path) == 3
    for start, stop in ((0, 3), (0, 1), (1, 2), (1, 3), (2, 3), (2, 99)):
        jets = reader.jets(path, start, stop)
        expected = EXPECTED[start:stop]
        assert jets.lengths.tolist() == [len(x) for x in expected]
        np.testing.assert_allclose(jets.constituents[:, 1], np.concatenate(expected))
        assert jets.jets["run"].tolist() == [7, 7, 9][start:stop]
    chosen = Reader(described({**plain, "select": "FatJet_pt > 20"}))
    assert chosen.count(path) == 2
    assert chosen.jets(path, 1, 2).jets["pt"].tolist() == [41.0]
    assert chosen.values(path, ["run"], 0, 2)["run"].to_list() == [7, 9]
