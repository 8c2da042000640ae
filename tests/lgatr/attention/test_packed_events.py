"""Which patterns of packed events the kernels on CUDA compute; those have checks of their own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from lgatr.attention import (
    ALiBi,
    AttentionSpec,
    Causal,
    GlobalTokens,
    MaskMod,
    Packing,
    PrefixLM,
    RelativePosition,
    ScoreModFunction,
    SlidingWindow,
    SoftCap,
)
from lgatr.attention.backends.native.cuda import WIDEST, PackedEvents, packed_events
from lgatr.attention.pattern.masks import Band
from lgatr.attention.pattern.scores import Chain

SLOPES = torch.tensor([0.5, 0.1])
PACKING = Packing.from_lengths([3, 4])


def stage_for(**changed):
    spec = AttentionSpec(**{"packing": PACKING, **changed})
    return packed_events(spec, lambda q, k, v: q)


KNOWN = {
    "all keys": ({}, None, None, False),
    "causal": ({"mask": Causal()}, Band(None, 0, False), None, False),
    "last corner": ({"mask": Causal(bottom_right=True)}, Band(None, 0, True), None, False),
    "window": ({"mask": SlidingWindow(2, 1)}, Band(2, 1, False), None, False),
    "joined": ({"mask": Causal() & SlidingWindow(4)}, Band(4, 0, False), None, False),
    "cap": ({"score": SoftCap(2.0)}, None, 2.0, False),
    "alibi": ({"score": ALiBi(SLOPES)}, None, None, True),
    "both": ({"score": SoftCap(2.0) >> ALiBi(SLOPES)}, None, 2.0, True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_patterns_of_the_kernels(name):
    """A pattern that would run slowly, or without its mask or change of scores."""
    given, band, cap, slopes = KNOWN[name]
    stage = stage_for(scale=0.0, **given)
    assert stage.band == band and stage.terms.cap == cap
    assert stage.terms.slopes is (SLOPES if slopes else None)
    assert stage.queries == PACKING and stage.keys == PACKING
    assert stage.scale_of(torch.zeros(7, 2, 4)) == 0.0


@dataclass(frozen=True, eq=False)
class Mean(Chain):
    """A modification of a user's own, which only looks like a known one."""

    def __call__(self, score, at):
        return sum(part(score, at) for part in self.parts) / len(self.parts)


class OwnCap(SoftCap):
    def __call__(self, score, at):
        return score.clamp(-self.cap, self.cap)


OTHERS = {
    "dropout": {"dropout": 0.1},
    "prefix": {"mask": PrefixLM(torch.tensor([1, 2]))},
    "function": {"mask": MaskMod(lambda b, h, q, k: q >= k)},
    "either": {"mask": Causal() | GlobalTokens(1)},
    "two corners": {"mask": Causal() & SlidingWindow(2, bottom_right=True)},
    "complement": {"mask": ~SlidingWindow(1)},
    "relative positions": {"score": RelativePosition(torch.zeros(2, 3))},
    "a function of scores": {"score": ScoreModFunction(lambda s, b, h, q, k: s)},
    "learned slopes": {"score": ALiBi(SLOPES.clone().requires_grad_())},
    "learned cap": {"score": SoftCap(torch.tensor(2.0, requires_grad=True))},
    "cap in a tensor": {"score": SoftCap(torch.tensor(2.0))},
    "cap last": {"score": ALiBi(SLOPES) >> SoftCap(2.0)},
    "two caps": {"score": SoftCap(2.0) >> SoftCap(3.0)},
    "two slopes": {"score": ALiBi(SLOPES) >> ALiBi(SLOPES)},
    "a chain of its own": {"score": Mean((SoftCap(2.0), ALiBi(SLOPES)))},
    "a cap of its own": {"score": OwnCap(2.0)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_patterns(name):
    """Results of another pattern, or slopes without a gradient."""
    assert stage_for(**OTHERS[name]) is None


def test_dense_batches():
    """Events of a dense batch are not packed."""
    assert stage_for(packing=None) is None


@pytest.fixture
def on_cuda(monkeypatch):
    monkeypatch.setattr(PackedEvents, "runs_on", lambda self, x: x.dtype != torch.float64)


def tensors(*shapes, dtypes=(torch.float32,) * 3):
    return [torch.zeros(s, dtype=dtype) for s, dtype in zip(shapes, dtypes, strict=False)]


def test_tensors_that_the_kernels_take(on_cuda):
    """Formats, widths or numbers of heads that differ, and are read as if they did not."""
    stage, fitting = stage_for(), (7, 2, 4)
    assert stage.accepts(*tensors(fitting, fitting, fitting))
    assert stage.accepts(*tensors(*[(7, 2, WIDEST)] * 3))
    for wide in (0, WIDEST + 1):
        assert not stage.accepts(*tensors(*[(7, 2, wide)] * 3))
    assert not stage.accepts(*tensors(fitting, (7, 1, 4), (7, 1, 4)))
    assert not stage.accepts(*tensors(fitting, fitting, (7, 2, 5)))
    half, double = torch.float16, torch.float64
    assert not stage.accepts(*tensors(*[fitting] * 3, dtypes=(half, half, torch.float32)))
    assert not stage.accepts(*tensors(*[fitting] * 3, dtypes=(double,) * 3))


def test_places_that_are_no_numbers_of_32_bits(on_cuda):
    """Events read from memory that is not theirs."""
    for stride, fits in ((2**28, True), (2**29, False)):
        apart = torch.empty_strided((7, 2, 4), (stride, 4, 1), device="meta")
        assert stage_for().accepts(*tensors((7, 2, 4), (7, 2, 4)), apart) == fits


def test_cpu_tensors_run_elsewhere():
    """Kernels for CUDA on what is not there."""
    assert not stage_for().accepts(*tensors(*[(7, 2, 4)] * 3))
