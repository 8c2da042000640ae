"""Recorded training steps: filled batches give the results of their events, and nothing waits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments.errors import UserError
from experiments.tasks.recorded_steps import (
    DEFAULT_STEP,
    GraphedForward,
    Shape,
    _Tensors,
    check_recordable,
    default_step,
    pad_batch,
    record,
)
from lgatr import Packing
from lgatr.attention import BoundedPacking, prepare_attention
from lgatr.attention.backends.native import NativeBackend
from lgatr.ops._runtime.stage import Stage
from support.nothing_waits import NothingWaits
from support.slow import every
from support.taggers import batch, build

LENGTHS = (30, 1, 17, 22)
PACKED = ["lgatr_small", "lgatr_slim_small", "transformer_small"]


def as_it_is(module, arguments, pool=None):
    """Stands for the recorder, which needs a GPU."""
    return module


def float_batch(lengths, seed=0):
    events = batch(lengths, seed)
    return type(events)(
        events.fourmomenta.float(), events.scalars.float(), events.packing, events.target
    )


@pytest.mark.parametrize("step", [1, 64, 100, 512])
@pytest.mark.parametrize("lengths", [LENGTHS, (512,), (63,), (1,)])
def test_filled_batches(lengths, step):
    events = batch(lengths)
    filled, shape = pad_batch(events, step)
    found = filled.packing.ptr.diff().tolist()
    assert found[: len(lengths)] == list(lengths)
    assert min(found) >= 1 and max(found) <= shape.longest
    assert sum(found) == shape.tokens == len(filled.fourmomenta) == len(filled.scalars)
    assert shape.tokens % step == 0 and shape.tokens - sum(lengths) < step + step // 64 + 1
    assert len(found) == shape.events == filled.packing.num_events
    assert torch.equal(filled.fourmomenta[: sum(lengths)], events.fourmomenta)
    assert torch.equal(filled.scalars[: sum(lengths)], events.scalars)


@pytest.mark.parametrize("name", PACKED)
def test_results_are_those_of_the_events(name):
    model, events = build(name).train(), batch(LENGTHS)
    probe = torch.randn(len(LENGTHS), 3, dtype=torch.float64)

    learned = [p for p in model.parameters() if p.requires_grad]

    def gradients(logits):
        return torch.autograd.grad(logits, learned, probe, allow_unused=True)

    expected = model(events)
    graphed = GraphedForward(model, 64, recorder=as_it_is)
    logits = graphed(events)
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(gradients(logits), gradients(expected), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_few_shapes():
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(300):
        lengths = tuple(int(n) for n in np.clip(rng.normal(50, 20, 128), 5, 128))
        shapes.add(pad_batch(batch(lengths), 512)[1])
    assert len(shapes) <= 10


def test_further_shapes_are_not_recorded():
    seen = []

    def recorder(module, arguments, pool):
        seen.append(module.shape)
        return module

    model = build("transformer_small").train()
    graphed = GraphedForward(model, 64, max_graphs=1, recorder=recorder)
    first, second = batch((10, 20)), batch((100, 20))
    graphed(first)
    torch.testing.assert_close(graphed(second), model(second), rtol=1e-10, atol=1e-10)
    graphed(first)
    assert seen == [Shape(3, 64, 64)] and list(graphed.graphs) == seen


def test_a_step_that_cannot_be_recorded():
    def recorder(module, arguments, pool):
        raise RuntimeError("CUDA error: operation not permitted\nand more")

    graphed = GraphedForward(build("transformer_small").train(), 64, recorder=recorder)
    with pytest.raises(UserError, match=r"not permitted\); start again with task.graph_step=0"):
        graphed(batch((10, 20)))


@pytest.fixture
def as_on_cuda(monkeypatch):
    """The formulas, no kernels of a CPU, and attention that knows no lengths."""
    monkeypatch.setattr(Stage, "passes", lambda self, x: None)
    monkeypatch.setattr(NativeBackend, "attend", lambda self, q, k, v, spec, plan: v * (q * k))

    def refuse_lengths(self):
        raise AssertionError("lengths are read")

    monkeypatch.setattr(BoundedPacking, "lengths", property(refuse_lengths))


@pytest.mark.parametrize("name", PACKED)
def test_no_step_waits_for_the_gpu(name, as_on_cuda):
    model = build(name).train()
    filled, shape = pad_batch(batch(LENGTHS), 64)
    arguments = filled.fourmomenta, filled.scalars, filled.packing.ptr
    _Tensors(model, shape)(*arguments)  # tables are made once
    with NothingWaits():
        logits = _Tensors(model, shape)(*arguments)
        logits.sum().backward()
    with NothingWaits(), pytest.raises(AssertionError, match="_local_scalar_dense waits"):
        logits.sum().item()
    assert any(p.grad is not None for p in model.parameters())


class TestBoundedPacking:
    def test_offsets_may_change(self):
        ptr = torch.tensor([0, 3, 8], dtype=torch.int32)
        packing = BoundedPacking(ptr, 8, 6)
        assert packing.lengths == (3, 5)
        longer, new, old = packing.prepend(2)
        ptr.copy_(torch.tensor([0, 6, 8]))
        assert packing.lengths == (6, 2)
        assert (longer.num_tokens, longer.max_length, longer.num_events) == (12, 8, 2)
        expected, places, others = Packing.from_lengths((3, 5)).prepend(2)
        assert torch.equal(longer.ptr, expected.ptr)
        assert torch.equal(new, places) and torch.equal(old, others)
        assert packing == packing and packing != BoundedPacking(ptr.clone(), 8, 6)
        assert len({packing, packing.to("cpu")}) == 1
        assert "2 events, 8 tokens, at most 6" in repr(packing)

    def test_xformers_reads_the_offsets_themselves(self):
        pytest.importorskip("xformers", reason="xformers is not installed")
        from lgatr.attention.backends.xformers import XformersBackend
        from lgatr.attention.pattern.spec import AttentionSpec

        ptr = torch.tensor([0, 3, 8], dtype=torch.int32)
        spec = AttentionSpec(packing=BoundedPacking(ptr, 8, 6))
        plan = XformersBackend().plan(spec, torch.device("cpu"))
        assert plan.q_seqinfo.seqstart is ptr and plan.k_seqinfo.seqstart is ptr
        assert plan.q_seqinfo.max_seqlen == 6
        assert plan.q_seqinfo.seqstart_py[-1] == 8

    def test_computes_like_any_other(self):
        ptr = torch.tensor([0, 3, 8], dtype=torch.int32)
        q, k, v = torch.randn(3, 8, 2, 4)
        found = [
            prepare_attention(q.device, q.dtype, packing=packing)(q, k, v)
            for packing in (BoundedPacking(ptr, 8, 6), Packing.from_lengths((3, 5)))
        ]
        assert torch.equal(*found)


def test_what_recorded_steps_cannot_do():
    check_recordable(1, 1, "32-true")
    with pytest.raises(UserError, match=r"accumulate_grad_batches=1 and trainer.precision=32-true"):
        check_recordable(2, 1, "bf16-mixed")
    with pytest.raises(UserError, match=r"trainer.devices=1; or set task.graph_step=0"):
        check_recordable(1, 2, "32-true")


class TestDefault:
    """task.graph_step=null: recorded on a GPU wherever that is safe."""

    HOW = (1, 1, "32-true")

    @pytest.mark.parametrize("name", PACKED)
    def test_packed_models(self, name):
        assert default_step(build(name), object(), *self.HOW) == DEFAULT_STEP

    @pytest.mark.parametrize("name", every(2, ["part", "particlenet", "pelican", "lorentznet"]))
    def test_models_that_pad(self, name):
        assert default_step(build(name), object(), *self.HOW) == 0

    @pytest.mark.parametrize("how", [(2, 1, "32-true"), (1, 2, "32-true"), (1, 1, "bf16-mixed")])
    def test_trainers(self, how):
        assert default_step(build("lgatr_small"), object(), *how) == 0

    @pytest.mark.parametrize(
        "option",
        ["attention=flex", "model.network.checkpoint_blocks=true", "+model.network.compile=true"],
    )
    def test_networks(self, option):
        assert default_step(build("lgatr_small", option), object(), *self.HOW) == 0

    def test_batches_by_token_budget(self):
        batches = SimpleNamespace(token_budget=4000)
        assert default_step(build("lgatr_small"), batches, *self.HOW) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to record steps on")
@pytest.mark.filterwarnings("ignore")  # the stream of gradients above is not the recorder's
@pytest.mark.parametrize("name", PACKED)
def test_recorded_on_a_gpu(name):
    model = build(name).float().cuda().train()
    graphed = GraphedForward(model, 64, recorder=record)
    for seed in range(4):  # the later ones are replays with other offsets
        lengths = tuple(torch.randperm(30, generator=torch.manual_seed(seed))[:4].add(1).tolist())
        events = float_batch(lengths, seed).to("cuda")
        # Recorded first: gradients of another stream must not be waiting meanwhile.
        logits = graphed(events)
        expected = model(events)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        probe = torch.randn_like(logits)
        learned = [p for p in model.parameters() if p.requires_grad]
        theirs = torch.autograd.grad(expected, learned, probe, allow_unused=True)
        model.zero_grad()
        logits.backward(probe)
        for p, grad in zip(learned, theirs, strict=True):
            if grad is not None:
                torch.testing.assert_close(p.grad, grad, rtol=1e-3, atol=1e-3)


def test_benchmark_of_idle_time():
    from benchmarks.floors import idle_share

    assert idle_share([(0, 4), (2, 5), (8, 10)], 0, 10) == pytest.approx(0.3)
    assert idle_share([(-5, 20)], 0, 10) == 0.0
    assert idle_share([], 0, 10) == 1.0


def test_benchmark_of_recorded_networks(monkeypatch):
    """What is handed to the recorder gives the network's outputs."""
    import sys

    monkeypatch.syspath_prepend("benchmarks")
    import speed_worker

    import lgatr

    net = lgatr.LGATrSlim(
        num_blocks=1, in_v_channels=1, out_v_channels=1, hidden_v_channels=8,
        in_s_channels=1, out_s_channels=1, hidden_s_channels=8, num_heads=2,
    )  # fmt: skip
    packing = Packing.from_lengths((3, 5))
    x, s = net.random_inputs(8)
    options = {"packing": packing, "backend": "native"}
    found = speed_worker.OnTensors(net, options)(packing.ptr, x, s)
    for ours, theirs in zip(found, net(x, s, packing=packing), strict=True):
        torch.testing.assert_close(ours, theirs)
    sys.modules.pop("speed_worker")
