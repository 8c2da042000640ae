"""Masks and scores of attention that options choose."""

from __future__ import annotations

import json

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from experiments.cli import CONFIG_DIR
from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.options.check import check_options
from lgatr.testing import report
from support import commands
from support.options import composed, refused
from support.slow import slow_but_for
from support.taggers import batch, build

SPEC = DataSpec(2, ("a", "b", "c"))
SMALL = ("model.network.num_blocks=1",)


@pytest.mark.parametrize(
    "model",
    slow_but_for(["lgatr_small"], ["lgatr_small", "lgatr_slim_small", "transformer_small"]),
)
@pytest.mark.parametrize(
    "options",
    [
        ("attention/mask=longformer",), ("attention/mask=window", "attention.mask.window=1"),
        ("attention/mask=earlier",), ("attention/score=pairwise",), ("attention/score=capped",),
        ("attention/mask=longformer", "attention/score=pairwise"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_they_reach_the_network(model, options):
    """Pairs begin at zero, so that their gradient says that they are there."""
    events = batch((9, 2, 14))
    plain, changed = build(model), build(model, *options)
    changed.load_state_dict(plain.state_dict(), strict=False)
    same = torch.allclose(plain(events), changed(events))
    if "attention/score=pairwise" in options:
        changed(events).sum().backward()
        assert changed.pairs.weight.grad.abs().max() > 0
    assert same == (options == ("attention/score=pairwise",))


def chain(model, *options):
    tagger = build(model, *options)
    if tagger.pairs is not None:
        torch.nn.init.normal_(tagger.pairs.weight)
    events = batch((5, 3))

    def logits(momenta):
        from experiments.data.batch import EventBatch

        moved = EventBatch(momenta, events.scalars, events.packing, events.target)
        return tagger(moved)

    return report(logits, events.fourmomenta, inputs="vector", outputs="scalar", trials=3)


FREE = (
    "model.symmetry_breaking.beam_spurion=null",
    "model.symmetry_breaking.add_time_spurion=false",
)


@pytest.mark.parametrize("model", ["lgatr_small", "lgatr_slim_small"])
def test_symmetries_that_a_network_has_are_kept(model):
    """Only the invariant mass of pairs is allowed without reference vectors, and keeps it all."""
    with pytest.raises(UserError, match=r"only m2 is Lorentz invariant.*names=\[m2\]"):
        build(model, *FREE, "attention/score=pairwise")
    found = chain(model, *FREE, "attention/score=pairwise", "attention.score.names=[m2]")
    assert found.symmetry in ("SO+(1,3)", "O(1,3)")


def test_others_refuse_them():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("run", overrides=["experiment=ttbar", "attention/mask=longformer"])
    with pytest.raises(UserError, match="attention/mask=window: a velocity field takes none"):
        from data.events.final_state import Cuts, FinalState

        state = FinalState(("a", "b"), (None, None), Cuts(20.0, 0.5, 4.0))
        instantiate(cfg.model)(spec=DataSpec(0, final_state=state))
    with pytest.raises(InstantiationException, match="there is no spin"):
        build("lgatr_small", "attention/score=pairwise", "attention.score.names=[spin]")


@pytest.mark.slow
def test_a_run_notes_them(tmp_path):
    commands.run(
        "experiment=toptagging", "model=lgatr_slim_small", *SMALL, "debug=fast", "plots=[]",
        "data.limit=200",
        "data.eval_limit=100", "attention/mask=longformer", "attention/score=pairwise",
        f"run_dir={tmp_path / 'run'}", check=True,
    )  # fmt: skip
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["attention_mask"] == "Window(window=8, global_tokens=4)"
    assert found["attention_score"].startswith("Pairwise(names=")


OF_ANOTHER_PACKAGE = """
from dataclasses import dataclass

from experiments.options.attention_patterns import MaskOption, ScoreOption
from experiments.options.markers import Count
from lgatr.attention import SlidingWindow, SoftCap


@dataclass(frozen=True)
class Near(MaskOption):
    places: Count

    def build(self):
        return SlidingWindow(self.places)


@dataclass(frozen=True)
class Bounded(ScoreOption):
    def build(self):
        return SoftCap(2.0)
"""


def test_a_mask_and_a_score_of_another_package(tmp_path, monkeypatch):
    """They need no entry here, are checked as ours are, and reach the network."""
    (tmp_path / "my_patterns.py").write_text(OF_ANOTHER_PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    mask, score = "_target_: my_patterns.Near, places: 1", "_target_: my_patterns.Bounded"
    options = [f"attention.mask={{{mask}}}", f"attention.score={{{score}}}"]
    check_options(composed(*options))
    (problem,) = refused(options[0].replace("1", "0"))
    assert "attention.mask.places=0: must be" in problem
    (problem,) = refused(f"attention.mask={{{score}}}")
    assert "must be a kind of MaskOption" in problem
    events, plain, changed = batch((9, 2)), build("lgatr_small"), build("lgatr_small", *options)
    changed.load_state_dict(plain.state_dict())
    assert not torch.allclose(plain(events), changed(events))
