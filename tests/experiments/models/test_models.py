"""Taggers: what they are invariant under, and that packing changes nothing."""

from __future__ import annotations

import itertools
import json
import sys

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from experiments.cli import CONFIG_DIR
from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.models.baselines.layout import pad_events, pairs, with_references
from experiments.models.observables import NAMES, observables
from experiments.options.check import check_options
from experiments.options.signatures import parameters
from lgatr import Packing
from support import lorentz
from support.options import composed
from support.slow import slow_but_for
from support.taggers import LENGTHS, SPEC, TAGGERS, batch, build

# Trees have nothing to say before they are trained.
MODELS = sorted(set(TAGGERS) - {"bdt"})


# Other sizes are made of the same parts.
SOME = [name for name in MODELS if not name.endswith(("_medium", "_sized"))]


@pytest.mark.parametrize("name", slow_but_for(SOME, MODELS))
def test_logits_of_events_alone(name):
    # lloca draws frames at random where all vectors of an event lie in a plane with the beam.
    lengths = (3, 4, 7, 2) if name.startswith("lloca") else LENGTHS
    model, events = build(name), batch(lengths)
    with torch.no_grad():
        together = model(events)
        parts = zip(
            events.fourmomenta.split(lengths), events.scalars.split(lengths), lengths, strict=True
        )
        alone = [
            model(EventBatch(p, s, Packing.from_lengths([n]), events.target[:1]))
            for p, s, n in parts
        ]
    assert together.shape == (4, 3)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", slow_but_for(SOME, [n for n in MODELS if n != "linformer"]))
def test_order_of_particles(name):
    model, events = build(name), batch((6,))
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    turned = EventBatch(
        events.fourmomenta[order], events.scalars[order], events.packing, events.target
    )
    with torch.no_grad():
        torch.testing.assert_close(model(turned), model(events), rtol=1e-9, atol=1e-9)


BASELINES = ("lloca", "lorentznet", "part", "particlenet", "pelican")


@pytest.mark.parametrize("name", ["lloca", "lorentznet", "pelican"])
def test_equivariant_baselines(name):
    none = "model.symmetry_breaking.beam_spurion=null"
    time = "model.symmetry_breaking.add_time_spurion=false"
    lengths = (5, 6, 8)  # three particles lie in a plane, where lloca draws frames at random
    model, events = build(name, none, time), batch(lengths)
    broken = build(name)
    turn = lorentz.random_transformation(0.7)
    moved = EventBatch(events.fourmomenta @ turn.T, events.scalars, events.packing, events.target)
    with torch.no_grad():
        before, after = model(events), model(moved)
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-7)
        assert (broken(moved) - broken(events)).abs().max() > 1e-5


@pytest.mark.parametrize("name", slow_but_for(["part", "lorentznet"], BASELINES))
def test_baselines_learn(name):
    """A step of every one lowers the loss on what it saw, through packed events of all lengths."""
    model = build(name).train()
    events = batch((3, 4, 7, 2, 20), seed=1)
    target = torch.tensor([0, 1, 2, 0, 1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        torch.manual_seed(0)  # of dropout
        loss = torch.nn.functional.cross_entropy(model(events), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    used = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    assert losses[-1] < losses[0]
    assert len(used) > 0.8 * len(list(model.parameters()))


@pytest.mark.slow
def test_lloca_attends_by_our_backends():
    model = build("lloca", "attention=flex").float()
    assert model.executed_attention == "none"
    with torch.no_grad():
        events = batch((3, 4))
        flex = model(events)
        assert model.executed_attention == "flex"
        model.attention = build("lloca").attention
        torch.testing.assert_close(model(events), flex, rtol=1e-4, atol=1e-4)
        assert model.executed_attention == "native"


@pytest.mark.parametrize("name", ["lloca", "lorentznet", "pelican"])
def test_baselines_take_references_as_particles_only(name):
    with pytest.raises(Exception, match="place=tokens"):
        build(name, "model.symmetry_breaking.place=channels")


def test_no_convolution():
    with pytest.raises(Exception, match="at least one edge convolution"):
        build("particlenet", "model.conv_params=[]")


def test_a_baseline_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pelican", None)
    with pytest.raises(Exception, match=r"model=pelican needs .*pip install -e '\.\[baselines\]'"):
        build("pelican")


class TestLayout:
    def test_pairs(self):
        packing = Packing.from_lengths(LENGTHS)
        for loops in (True, False):
            expected = [
                (i, j)
                for a, b in itertools.pairwise(packing.ptr.tolist())
                for i in range(a, b)
                for j in range(a, b)
                if loops or i != j
            ]
            assert list(zip(*(x.tolist() for x in pairs(packing, loops)), strict=True)) == expected

    def test_padding(self):
        events = batch()
        padded, real = pad_events(events.scalars, events.packing, 9)
        assert padded.shape == (4, 9, 2) and real.sum(1).tolist() == list(LENGTHS)
        assert torch.equal(padded[real], events.scalars) and not padded[~real].any()
        assert pad_events(events.scalars, events.packing)[0].shape == (4, 7, 2)

    def test_references_come_first(self):
        events, references = batch((2, 1)), torch.eye(4, dtype=torch.float64)[:2]
        p, scalars, packing = with_references(events, events.fourmomenta, references)
        assert packing.lengths == (4, 3)
        assert scalars[:, 0].tolist() == [1, 1, 0, 0, 1, 1, 0]
        torch.testing.assert_close(p[[0, 1, 4, 5]], references.repeat(2, 1))
        assert torch.equal(p[[2, 3, 6]], events.fourmomenta)
        assert torch.equal(scalars[[2, 3, 6], 1:], events.scalars)


@pytest.mark.parametrize("name", ["lgatr_small", "lgatr_slim_small"])
class TestSymmetry:
    NONE = (
        "model.symmetry_breaking.beam_spurion=null",
        "model.symmetry_breaking.add_time_spurion=false",
    )

    def moved(self, events, matrix):
        return EventBatch(
            events.fourmomenta @ matrix.T, events.scalars, events.packing, events.target
        )

    @pytest.mark.parametrize("place", ["tokens", "channels"])
    def test_lorentz_invariant_without_references(self, name, place):
        model = build(name, *self.NONE, f"model.symmetry_breaking.place={place}")
        events = batch()
        matrix = lorentz.random_transformation(0.7)
        with torch.no_grad():
            before, after = model(events), model(self.moved(events, matrix))
        torch.testing.assert_close(after, before, rtol=1e-7, atol=1e-8)

    @pytest.mark.parametrize("beam", ["lightlike", "timelike", "spacelike"])
    def test_rotations_about_the_beam_remain(self, name, beam):
        model = build(name, f"model.symmetry_breaking.beam_spurion={beam}")
        events, angle = batch(), torch.tensor(0.8, dtype=torch.float64)
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[1, 1] = matrix[2, 2] = angle.cos()
        matrix[1, 2], matrix[2, 1] = -angle.sin(), angle.sin()
        general = lorentz.random_transformation(0.7)
        with torch.no_grad():
            before = model(events)
            torch.testing.assert_close(
                model(self.moved(events, matrix)), before, rtol=1e-8, atol=1e-9
            )
            assert (model(self.moved(events, general)) - before).abs().max() > 1e-4


def test_the_plane_is_no_vector():
    with pytest.raises(Exception, match="xyplane is a bivector"):
        build("lgatr_slim", "model.symmetry_breaking.beam_spurion=xyplane")


class TestFineTuning:
    SMALL = ("model.tagger.network.num_blocks=3", "model.tagger.network.hidden_mv_channels=4")

    def backbone(self, tmp_path, spec=SPEC):
        """As a run would leave it, of ten classes."""
        tagger = build("finetune", *self.SMALL, spec=spec).tagger
        (tmp_path / "checkpoints").mkdir()
        state = {f"model.{name}": t for name, t in tagger.state_dict().items()}
        torch.save({"state_dict": state}, tmp_path / "checkpoints/best.ckpt")
        note = {"num_scalars": spec.num_scalars, "classes": list(spec.classes)}
        (tmp_path / "data_spec.json").write_text(json.dumps(note))
        return tagger

    def test_all_but_the_head(self, tmp_path):
        theirs = self.backbone(tmp_path, DataSpec(2, tuple("abcdefghij")))
        ours = build("finetune", *self.SMALL, f"model.backbone={tmp_path}").tagger
        state = theirs.state_dict()
        same = {n for n, t in ours.state_dict().items() if torch.equal(t, state.get(n, t[:0]))}
        heads = {n for n in state if n.startswith("network.linear_out.")}
        assert set(state) - same == {n for n in heads if n not in same} != set()
        assert ours.network.linear_out.weight.shape[0] == 3

    def test_learning_rates(self):
        model = build("finetune", *self.SMALL, "model.layer_decay=0.5")
        groups = model.parameter_groups()
        parameters = [id(p) for group in groups for p in group["params"]]
        assert sorted(parameters) == sorted(id(p) for p in model.parameters())
        assert [g["lr"] for g in groups] == [3e-3, 3e-5 / 4, 3e-5 / 2, 3e-5, 3e-5 / 8]

    def test_other_features(self, tmp_path):
        self.backbone(tmp_path, DataSpec(5, ("a", "b")))
        with pytest.raises(Exception, match="trained with 5 features"):
            build("finetune", *self.SMALL, f"model.backbone={tmp_path}")

    def test_another_network(self, tmp_path):
        self.backbone(tmp_path)
        with pytest.raises(Exception, match="another network"):
            build("finetune", f"model.backbone={tmp_path}")

    def test_no_run(self, tmp_path):
        with pytest.raises(Exception, match="not the folder of a run"):
            build("finetune", f"model.backbone={tmp_path}")


class TestObservables:
    def by_hand(self, p):
        """The definitions, with loops over particles of one jet."""
        jet = p.sum(axis=0)
        pt, jet_pt = np.hypot(p[:, 1], p[:, 2]), np.hypot(jet[1], jet[2])
        eta, phi = np.arcsinh(p[:, 3] / pt), np.arctan2(p[:, 2], p[:, 1])
        jet_eta, jet_phi = np.arcsinh(jet[3] / jet_pt), np.arctan2(jet[2], jet[1])

        def distance(a, b, c, d):
            turn = abs(b - d)
            return np.hypot(a - c, min(turn, 2 * np.pi - turn))

        z = pt / pt.sum()
        mass = np.sqrt(max(jet[0] ** 2 - jet[1:] @ jet[1:], 0))
        found = [mass, len(p), jet_pt, mass / jet_pt]
        for beta in (0.5, 1, 2):
            found.append(
                sum(
                    zi * distance(e, f, jet_eta, jet_phi) ** beta
                    for zi, e, f in zip(z, eta, phi, strict=True)
                )
            )
        found.append(np.sqrt((z**2).sum()))
        falling = np.sort(z)[::-1]
        padded = np.concatenate([falling, np.zeros(5)])
        found += [*padded[:3], padded[:5].sum(), np.searchsorted(falling.cumsum(), 0.9 - 1e-9) + 1]
        for beta in (0.5, 1, 2):
            found.append(
                sum(
                    z[i] * z[j] * distance(eta[i], phi[i], eta[j], phi[j]) ** beta
                    for i in range(len(p))
                    for j in range(i + 1, len(p))
                )
            )
        return found

    def test_definitions(self):
        events = batch((9, 1, 25, 4), seed=5)
        found = observables(events).numpy()
        assert found.shape == (4, len(NAMES))
        for row, p in zip(found, events.fourmomenta.split((9, 1, 25, 4)), strict=True):
            np.testing.assert_allclose(row, self.by_hand(p.numpy()), rtol=1e-9, atol=1e-9)


def test_trees_learn_in_one_go():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("run", overrides=["model=bdt", "++model.max_iter=20"])
    trees = instantiate(cfg.model)(spec=DataSpec(0, ("few", "many")))
    assert not trees(batch()).any()
    batches = []
    for seed in range(6):
        lengths = tuple(torch.randint(2, 12, (60,)).tolist())
        events = batch(lengths, seed)
        target = (torch.tensor(lengths) > 6).long()
        batches.append(EventBatch(events.fourmomenta, events.scalars, events.packing, target))
    trees.fit(batches[:5])
    logits = trees(batches[5]).squeeze(1)
    assert ((logits > 0) == (batches[5].target == 1)).float().mean() > 0.9


def test_trees_without_their_package(monkeypatch):
    """Also while options are checked."""
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    parameters.cache_clear()
    check_options(composed("model=bdt"))
    with pytest.raises(UserError, match=r"model=bdt needs .*pip install -e '\.\[trees\]'"):
        build("bdt")
    parameters.cache_clear()
