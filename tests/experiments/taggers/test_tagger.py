"""Taggers that are saved and loaded: the same scores, and nothing of strangers is executed."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file

from data.errors import DataError
from data.formats import read_jets
from experiments.cli import ROOT
from experiments.errors import UserError
from experiments.saved_runs import saved_tagger
from experiments.taggers import Tagger
from experiments.taggers.tagger import batches
from support import commands

SAMPLE = ROOT / "data" / "toptagging_mini.h5"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    commands.run(
        "experiment=toptagging", "model=lgatr_slim_small", "model.network.num_blocks=1",
        "debug=fast", "plots=[]", "data.limit=300", "data.eval_limit=200",
        "data.features=[kinematics]", "data.max_constituents=30", f"run_dir={folder}", check=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def saved(run, tmp_path):
    Tagger.from_pretrained(run).save_pretrained(tmp_path / "tagger")
    return tmp_path / "tagger"


def test_the_scores_of_the_run(run, saved):
    """From the run, from what was saved of it, and from tensors."""
    with h5py.File(run / "test_scores.h5") as file:
        expected = file["logits"][:]
        labels = file["target"][:]
    jets = read_jets(SAMPLE, "test", 200)
    assert np.array_equal(labels, jets.labels)  # rows are in the order of the data
    for folder in (run, saved):
        tagger = Tagger.from_pretrained(folder)
        found = tagger.logits(jets)
        np.testing.assert_allclose(found[:, 0].numpy(), expected, atol=1e-5)
        again = tagger(torch.from_numpy(np.array(jets.constituents)), jets.lengths)
        assert torch.equal(again, found)
    scores = tagger.probabilities(jets)
    np.testing.assert_allclose(scores[:, 1], found[:, 0].sigmoid(), rtol=1e-5)
    assert tagger.classes == ("background", "signal") and tagger.columns == ()


def test_what_is_no_jet_is_refused(saved):
    tagger = Tagger.from_pretrained(saved)
    with pytest.raises(DataError, match="energy <= 0"):
        tagger(np.zeros((3, 4)), [3])
    with pytest.raises(DataError, match="offsets must rise"):
        tagger(np.ones((3, 4)), [2])


def test_the_card(run, saved):
    card = (saved / "README.md").read_text()
    for part in (
        "background and signal apart",
        "debug=fast",
        "| network | SlimTagger",
        "| auc |",
    ):
        assert part in card
    with pytest.raises(UserError, match=r"tagger.json: exists; choose another folder"):
        Tagger.from_pretrained(run).save_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2, and this library reads 1; use a newer one"),
        ({"format": "x"}, "format must be lgatr-tagger, not 'x'"),
        ({"classes": ["a"]}, "classes must be two or more different names"),
        ({"classes": "ab"}, "classes must be a list of names"),
        ({"features": ["log_pt"]}, "num_scalars is 7, and there are 1 features"),
        ({"features": ["nothing"]}, "features: no feature nothing"),
        ({"unit": "MeV"}, "unit must be GeV"),
        ({"max_constituents": -1}, "must not be negative"),
        ({"smallest_component": "a"}, "smallest_component must be a momentum in GeV"),
        ({"model": {"_target_": "os.system", "_partial_": True}}, "not a part of runs"),
        ({"model": {"_target_": "shutil.rmtree", "path": "/"}}, "not a part of runs"),
        ({"model": 3}, "model must be the configuration of a network"),
    ],
)
def test_descriptions_that_are_wrong(saved, change, message):
    file = saved / "tagger.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        Tagger.from_pretrained(saved)


def test_weights_that_are_wrong(saved, tmp_path):
    file = saved / "model.safetensors"
    weights = load(file.read_bytes())
    # In no order, and some buffers are empty.
    name = next(name for name, tensor in weights.items() if tensor.numel())
    content = file.read_bytes()
    for broken in (content[:100], content[:-10], b"\x80\x04.", b""):
        file.write_bytes(broken)
        with pytest.raises(UserError, match=r"model.safetensors: damaged"):
            Tagger.from_pretrained(saved)
    save_file({**weights, name: weights[name] * float("nan")}, file)
    with pytest.raises(UserError, match="weights that are no numbers"):
        Tagger.from_pretrained(saved)
    save_file({k: v for k, v in weights.items() if k != name}, file)
    with pytest.raises(UserError, match="weights of another network"):
        Tagger.from_pretrained(saved)
    file.unlink()
    with pytest.raises(UserError, match=r"lacks model\.safetensors"):
        Tagger.from_pretrained(saved)
    with pytest.raises(UserError, match="no tagger and no run"):
        Tagger.from_pretrained(tmp_path)


def test_runs_that_are_no_taggers(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    spec = json.loads((copy / "data_spec.json").read_text())
    (copy / "data_spec.json").write_text(json.dumps({**spec, "quantity": "mass"}))
    with pytest.raises(UserError, match="predicts mass; taggers alone"):
        Tagger.from_pretrained(copy)
    with pytest.raises(UserError, match="attention 'fast': must be one of"):
        Tagger.from_pretrained(run, attention="fast")


def test_batches_hold_every_jet_once():
    lengths = np.random.default_rng(0).integers(1, 50, 500)
    found = list(batches(lengths, 100))
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(500))
    assert all(lengths[rows].sum() <= 100 for rows in found)
    assert [len(rows) for rows in batches(np.array([300, 200]), 100)] == [1, 1]
    assert list(batches(np.array([], np.int64))) == []


@pytest.mark.slow
def test_fine_tuning_starts_from_a_saved_tagger(saved, tmp_path):
    """The backbone's weights are those that were saved."""
    run = tmp_path / "run"
    commands.run(
        "experiment=toptagging_finetune", "model=finetune_slim",
        "model@model.tagger=lgatr_slim_small",
        "model.tagger.network.num_blocks=1", f"model.backbone={saved}", f"data.path={SAMPLE}",
        "data.features=[kinematics]", "data.limit=100", "data.eval_limit=100", "debug=fast",
        "plots=[]", "model.backbone_lr=1e-12", f"run_dir={run}", check=True,
    )  # fmt: skip
    before = Tagger.from_pretrained(saved).model.state_dict()
    after = Tagger.from_pretrained(run).model.state_dict()
    same = [n for n, x in before.items() if torch.allclose(x, after[n], atol=1e-6)]
    changed = set(before) - set(same)
    assert changed and all(name.startswith("network.linear_out") for name in changed)


def test_names_of_taggers_that_come_with_the_code(monkeypatch, saved):
    monkeypatch.setattr(saved_tagger, "SHIPPED", saved.parent)
    assert saved_tagger.shipped_names() == ["tagger"]
    assert Tagger.from_pretrained("tagger").classes == ("background", "signal")
    with pytest.raises(UserError, match="those that come with the code are tagger"):
        Tagger.from_pretrained("other")
