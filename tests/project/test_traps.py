"""Mistakes known from other programs, each shown not to be made here."""

from __future__ import annotations

import gc
import json
from functools import partial

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from data.formats import read_jets
from data.jets import Jets
from experiments.cli import CONFIG_DIR, ROOT
from experiments.data.batch import DataSpec, EventBatch
from experiments.data.datamodule import JetData
from experiments.data.preparation import Preparation
from experiments.models.finetune import in_class_order
from experiments.tasks.classification import Classification
from experiments.training.schedules import cosine_with_warmup
from lgatr import LGATr, Packing

SAMPLE = str(ROOT / "data" / "toptagging_mini.h5")


def jets(*rows):
    """Of two particles each."""
    momenta = np.array(rows, dtype=np.float32)
    return Jets(momenta, np.arange(len(rows) // 2 + 1) * 2, np.zeros(len(rows) // 2, int), "test")


class TestPadding:
    """A particle is real when it has energy; a tiny component makes it no padding."""

    SAMPLE = jets((5, 3, 4, 0), (9, 1, 2, 3), (7, 0, 0, 7), (8, 8, 1e-6, 0))

    def test_the_rule_of_the_papers_is_an_option(self):
        found = self.SAMPLE.without_small_components(1e-5)
        assert found.lengths.tolist() == [1, 1]
        # The first jet loses a real particle, the second keeps its first lest it be empty.
        np.testing.assert_array_equal(found.constituents, [(9, 1, 2, 3), (7, 0, 0, 7)])

    def test_off_by_default(self):
        def module(smallest):
            data = JetData(SAMPLE, 16, 0, 2000, [], 0, [], 0, 0, 1, smallest, eval_limit=100)
            data.setup()
            return sum(map(len, (b.fourmomenta for b in data.test_dataloader())))

        kept = int(read_jets(SAMPLE, "test", 100).lengths.sum())
        assert module(0.0) == kept
        assert module(1.0) < kept
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            assert compose("run").data.smallest_component == 0.0


class TestLabels:
    """Programs number the ten classes differently; names tell which is which."""

    THEIRS = ("QCD", "Tbqq", "Tbl", "Wqq", "Zqq")
    OURS = ("QCD", "Zqq", "Wqq", "Tbqq", "Tbl")

    def test_heads_follow_names(self):
        head = torch.arange(10.0).reshape(5, 2)
        moved = in_class_order(head, self.THEIRS, self.OURS)
        for name in self.OURS:
            assert torch.equal(moved[self.OURS.index(name)], head[self.THEIRS.index(name)])
        pair = in_class_order(torch.ones(1), ("signal", "background"), ("background", "signal"))
        assert pair.tolist() == [-1]

    def test_other_classes(self):
        with pytest.raises(Exception, match="model.keep_head=false"):
            in_class_order(torch.ones(5), self.THEIRS, (*self.OURS[:-1], "Hbb"))

    def test_a_whole_tagger(self, tmp_path):
        """Outputs of a kept head are those of the run, each under its name."""

        def tagger(classes, *options):
            with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
                cfg = compose("run", overrides=["model=finetune", *SMALL, *options])
            return instantiate(cfg.model)(spec=DataSpec(0, classes)).eval()

        SMALL = ("model.tagger.network.num_blocks=1", "model.tagger.network.hidden_mv_channels=4")
        run = tmp_path / "run"
        (run / "checkpoints").mkdir(parents=True)
        first = tagger(self.THEIRS)
        state = {f"model.{name}": t for name, t in first.tagger.state_dict().items()}
        torch.save({"state_dict": state}, run / "checkpoints/best.ckpt")
        note = {"num_scalars": 0, "classes": list(self.THEIRS)}
        (run / "data_spec.json").write_text(json.dumps(note))
        second = tagger(self.OURS, f"model.backbone={run}", "model.keep_head=true")
        batch = Preparation()(read_jets(SAMPLE, "test", 4))
        with torch.no_grad():
            order = [self.THEIRS.index(name) for name in self.OURS]
            torch.testing.assert_close(second(batch), first(batch)[:, order])


class Coarse(torch.nn.Module):
    """A tagger whose scores tie under mixed precision."""

    executed_attention = "none"

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1, bias=False)
        torch.nn.init.constant_(self.linear.weight, 1.0)

    def forward(self, batch: EventBatch):
        return self.linear(batch.fourmomenta[batch.packing.ptr[:-1].long()])


def test_scores_do_not_tie_under_mixed_precision():
    p = torch.rand(500, 4)
    batch = EventBatch(
        p, p.new_empty(500, 0), Packing.from_lengths([1] * 500), torch.arange(500) % 2
    )
    task = Classification(
        DataSpec(0, ("a", "b")), Coarse(), torch.optim.AdamW, partial(cosine_with_warmup)
    )
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert len(task(batch).unique()) < 300
        task.validation_step(batch, 0)
    (scores,) = task._parts
    assert scores.logits.dtype == torch.float32 and len(scores.logits.unique()) > 495


def test_a_sample_is_a_few_arrays_not_an_object_per_jet():
    count = 100_000
    gc.collect()
    before = len(gc.get_objects())
    momenta = np.ones((3 * count, 4), np.float32)
    sample = Jets(momenta, np.arange(count + 1) * 3, np.zeros(count, int), "test")
    selected = sample.select(np.arange(count)[::-1])
    assert len(selected) == count
    assert len(gc.get_objects()) - before < 100


def test_gradients_repeat_exactly():
    """No sum over an index whose order is left to chance."""
    torch.use_deterministic_algorithms(True)
    try:
        net = LGATr(
            num_blocks=2, in_mv_channels=1, out_mv_channels=1, hidden_mv_channels=4,
            in_s_channels=None, out_s_channels=None, hidden_s_channels=8,
            attention={"num_heads": 2}, mlp={},
        )  # fmt: skip
        packing = Packing.from_lengths([3, 9, 1, 4])
        x = torch.randn(17, 1, 16)
        found = []
        for _ in range(2):
            net.zero_grad()
            net(x, packing=packing)[0].square().sum().backward()
            found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_masks_and_tokens_ask_the_device_for_nothing(monkeypatch):
    """What would wait for a GPU: reading a tensor's value on the host."""
    packing = Packing.from_lengths([3, 9, 1, 4])

    def forbidden(self, *_):
        raise AssertionError("the host waits for the device")

    for name in ("item", "tolist", "__bool__", "__int__", "__float__", "nonzero", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    longer, new, old = packing.prepend(2)
    assert longer.lengths == (5, 11, 3, 6) and longer.num_tokens == 25
    assert new.shape == (4, 2) and old.shape == (17,) and len(longer.batch_index()) == 25
