"""What a description may say."""

from __future__ import annotations

import pytest
import yaml

from data.described.description import FileName, described, read_description
from data.errors import DataError

WHOLE = """
files: {train: [a_*.root, b.root], val: c.root, test: d.root}
tree: events
unit: MeV
momenta: {pt: part_pt, eta: part_eta, phi: part_phi}
particles: {charge: part_charge, flag: abs(part_id) == 22}
jets: {mass: jet_mass}
keep: part_pt > 500
select: jet_pt > 2e5
classes: {QCD: label == 0, top: {file: top_*}}
"""


def test_all_of_it():
    found = described(yaml.safe_load(WHOLE))
    assert found.files == {"train": ("a_*.root", "b.root"), "val": ("c.root",), "test": ("d.root",)}
    assert found.fields() == (
        "part_pt", "part_eta", "part_phi", "part_charge", "part_id", "jet_mass", "jet_pt", "label",
    )  # fmt: skip
    assert found.fields(labelled=False)[-1] == "jet_pt"
    assert found.fields_of_selection == ("jet_pt",)
    assert found.classes["top"] == FileName("top_*") and not found.drops_unclassified


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momenta": None}, "momenta: must be names with values"),
        ({"momenta": {"pt": "a", "eta": "b"}}, "momenta: has pt, eta; give one of"),
        ({"momenta": {"E": "a"}}, "momenta: has E; give one of"),
        ({"particles": {"x": "import os"}}, r"particles.x: 'import os' is no expression"),
        ({"particles": {"x": "open(y)"}}, r"particles.x: 'open\(y\)' calls open; there are abs"),
        ({"jets": ["a"]}, "jets: must be names with values"),
        ({"classes": {"a": "x"}}, "classes: has one"),
        ({"classes": {"a": "x", "b": {"name": "y"}}}, r"classes.b: has no name; there are file"),
        ({"unit": "keV"}, "unit: must be one of GeV, MeV, TeV"),
        ({"unclassified": "maybe"}, "unclassified: must be one of refuse, drop"),
        ({"files": {"train": "a"}}, "files: lacks val, test"),
        ({"files": {"training": "a"}}, "files: lacks train, val, test"),
        ({"shares": [0.5, 0.2, 0.3]}, "shares: of files that are given by split"),
        ({"shares": [0.5, 0.2], "files": "*.root"}, "shares: must be three numbers"),
        ({"shares": [0.5, 0.4, 0.3], "files": "*.root"}, "shares: must be three numbers"),
        ({"colour": 1}, "a description: has no colour; there are momenta"),
        ({"events": {"jets": "J_"}}, "events: needs pairs or references"),
        ({"events": {"jets": "J_", "pairs": ["a", "b"]}}, "events.particles: must be text"),
        ({"events": {"jets": "J", "particles": "P", "pairs": "a"}}, "events.pairs: must be a list"),
        ({"tree": 3}, "tree: must be text, not 3"),
        ({1: 2}, "a description: must be names"),
    ],
)  # fmt: skip
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        described({**yaml.safe_load(WHOLE), **change})


@pytest.mark.parametrize(
    "content",
    [b"a: [", b"\xff\xfe", b"- 1\n- 2\n", b"", b"!!python/object/apply:os.getcwd []", b"3"],
)
def test_files_that_are_no_description(tmp_path, content):
    path = tmp_path / "jets.yaml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"jets.yaml: "):
        read_description(path)
