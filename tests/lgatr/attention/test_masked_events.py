"""Masks and changed scores by the kernel for CPUs, against the definition in float64."""

from __future__ import annotations

import math

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
    ScoreModFunction,
    SlidingWindow,
    SoftCap,
)
from lgatr.attention.backends.native import masked
from lgatr.attention.backends.native.backend import NativeBackend
from lgatr.attention.backends.native.masked import MaskedEvents, table_of
from lgatr.attention.backends.native.score_terms import ScoreTerms
from lgatr.attention.pattern.positions import block_positions
from lgatr.ops._runtime.cpu import has_native_kernels
from support.mask_cases import LENGTHS, MASKS
from support.slow import slow_but_for

CPU = torch.device("cpu")
HEADS = 2
SLOPES = torch.tensor([0.3, 0.01])
SCORES = {
    "plain": None,
    "cap": SoftCap(1.5),
    "large cap": SoftCap(1000.0),
    "alibi": ALiBi(SLOPES),
    "both": SoftCap(1.5) >> ALiBi(SLOPES),
}
# Several stretches of keys and blocks of queries, and edges inside of tiles.
LONG = ((70, 600), (1100, 130))
SHORT_CROSS = ((20, 3), (30, 9))
# Each query sees itself, at distance zero: else all scores may be large, and few bits are left.
LONG_SELF = ((70, 1100), (70, 1100))
LONG_MASKS = {
    "window": SlidingWindow(9, 30),
    "window, last corner": SlidingWindow(300, 0, bottom_right=True),
    "later": SlidingWindow(None, 40),
    "prefix": PrefixLM(100),
    "Longformer": SlidingWindow(3) | GlobalTokens(2),
    "hole": ~SlidingWindow(200),
    "nothing for some": MaskMod(lambda b, h, q, k: (q % 70 > 3) & (k > 520)),
    "of each head": MaskMod(lambda b, h, q, k: (q + h * k) % 5 < 2),
}


@pytest.fixture(autouse=True)
def built():
    if not has_native_kernels(torch.zeros(1)):
        pytest.skip("no C++ compiler")


def spec_of(queries, keys, mask=None, score=None, scale=None):
    return AttentionSpec(
        packing=Packing.from_lengths(queries), kv_packing=Packing.from_lengths(keys), mask=mask,
        score=score, scale=scale,
    )  # fmt: skip


def stage_of(spec):
    def formula(q, k, v):
        return NativeBackend._scored(q, k, v, spec, False)[0]

    lengths = spec.packing.lengths, spec.key_packing.lengths
    return MaskedEvents(formula, *lengths, spec.mask, ScoreTerms.of(spec.score), spec.scale)


def tensors(queries, keys, dtype, width=5):
    shapes = ((sum(queries), HEADS, width), *[(sum(keys), HEADS, width)] * 2)
    return [torch.randn(s, dtype=dtype, requires_grad=True) for s in shapes]


def allowed_of(mask, queries, keys):
    """The mask of each event, ``(H, n, m)``."""
    q = k = 0
    for event, (n, m) in enumerate(zip(queries, keys, strict=True)):
        at = block_positions(range(event, event + 1), HEADS, range(n), range(m), (n, m), (q, k))
        whole = torch.ones(1, HEADS, n, m, dtype=torch.bool)
        yield (whole if mask is None else whole & mask.allowed(at))[0]
        q, k = q + n, k + m


def definition(q, k, v, spec):
    queries, keys = spec.packing.lengths, spec.key_packing.lengths
    scale = q.shape[-1] ** -0.5 if spec.scale is None else spec.scale
    parts = () if spec.score is None else getattr(spec.score, "parts", (spec.score,))
    events = q.split(queries), k.split(keys), v.split(keys), allowed_of(spec.mask, queries, keys)
    found = []
    for x, y, z, allowed in zip(*events, strict=True):
        s = scale * torch.einsum("ihd,jhd->hij", x, y)
        for part in parts:
            if isinstance(part, SoftCap):
                s = part.cap * torch.tanh(s / part.cap)
            else:
                distance = torch.arange(len(x))[:, None] + len(y) - len(x) - torch.arange(len(y))
                s = s - SLOPES.double()[:, None, None] * distance.abs()
        top = s.masked_fill(~allowed, -math.inf).amax(-1, keepdim=True).detach()
        weights = (s - top.masked_fill(top == -math.inf, 0.0)).exp() * allowed
        total = weights.sum(-1, keepdim=True)
        weights = weights / total.masked_fill(total == 0, 1.0)
        found.append(torch.einsum("hij,jhd->ihd", weights, z))
    return torch.cat(found)


def check(spec, dtype, width=5):
    given = tensors(spec.packing.lengths, spec.key_packing.lengths, dtype, width)
    stage = stage_of(spec)
    assert stage.accepts(*given)
    (out,) = stage(*given)
    assert "_Run" in str(out.grad_fn)
    exact = [x.detach().double().requires_grad_() for x in given]
    expected = definition(*exact, spec)
    grad = torch.randn_like(expected)
    found = torch.autograd.grad(out, given, grad.to(dtype))
    wanted = torch.autograd.grad(expected, exact, grad)
    tolerance = 1e-11 if dtype == torch.float64 else 5e-6
    for a, b in zip((out, *found), (expected, *wanted), strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1.0)
    with torch.no_grad():
        assert torch.equal(stage(*given)[0], out)


@pytest.mark.parametrize("lengths", [n for n in LENGTHS if n != "long"])
@pytest.mark.parametrize("name", [n for n in MASKS if n != "causal"])
def test_masks(name, lengths, dtype):
    queries, keys = LENGTHS[lengths]
    check(spec_of(queries, keys, MASKS[name][0](queries, keys)), dtype)


@pytest.mark.parametrize("dtype", slow_but_for([torch.float32], [torch.float32, torch.float64]))
@pytest.mark.parametrize("name", LONG_MASKS)
def test_long_events(name, dtype):
    check(spec_of(*LONG, LONG_MASKS[name]), dtype)


@pytest.mark.parametrize("mask", [None, Causal(), LONG_MASKS["Longformer"]], ids=str)
@pytest.mark.parametrize("score", [name for name in SCORES if name != "plain"])
@pytest.mark.parametrize("lengths", slow_but_for([SHORT_CROSS], [SHORT_CROSS, LONG_SELF]))
def test_scores(lengths, score, mask, dtype):
    check(spec_of(*lengths, mask, SCORES[score], scale=-0.7), dtype)


@pytest.mark.parametrize("width", [1, 16, 72, 100])
def test_widths(width, dtype):
    check(spec_of((3, 90), (3, 90), SlidingWindow(5) | GlobalTokens(1)), dtype, width)


@pytest.mark.parametrize("reach", [(2, 2**31 - 1), (2**31 - 1, 0)])
def test_windows_wider_than_numbers_are(reach):
    check(spec_of((1, 18), (1, 18), SlidingWindow(*reach)), torch.float64)


@pytest.mark.parametrize("reach", [0, 1])
def test_what_is_not_a_number_is_seen_by_those_who_see_it(reach):
    """Also if it is all they see."""
    spec = spec_of((5, 9, 3), (5, 9, 3), SlidingWindow(reach))
    given = tensors((5, 9, 3), (5, 9, 3), torch.float32)
    before = stage_of(spec)(*given)[0].detach()
    with torch.no_grad():
        given[1][10, 1] = math.nan
    after = stage_of(spec)(*given)[0].detach()
    changed = (before != after).any(-1)
    seers = range(10 - reach, 11 + reach)
    assert changed.nonzero().tolist() == [[token, 1] for token in seers]
    assert after[list(seers), 1].isnan().all()


def test_one_event_at_a_time_and_all_in_one_row(monkeypatch):
    """Tables are the same in whichever way they are made."""
    queries, keys = (3, 3, 70, 1, 200), (4, 4, 130, 1, 64)
    for mask in LONG_MASKS.values():
        tables = []
        for kept in (1 << 21, 0):
            monkeypatch.setattr(masked, "_KEPT_SCORES", kept)
            tables.append(table_of(mask, queries, keys, HEADS))
        for a, b in zip(*tables, strict=True):
            assert torch.equal(a, b)


def test_tiles_say_what_their_scores_do():
    queries, keys = (3, 130), (70, 200)
    entries, tiles = table_of(SlidingWindow(70, 10) | GlobalTokens(1), queries, keys, HEADS)
    starts = [0, 3 * 70]
    expected = []
    for n, m, start in zip(queries, keys, starts, strict=True):
        whole = entries[0, start : start + n * m].view(n, m)
        for i in range(0, n, 64):
            for j in range(0, m, 64):
                tile = whole[i : i + 64, j : j + 64]
                expected.append(int(tile.any()) + int(tile.all()))
    assert tiles[0].tolist() == expected and set(expected) == {0, 1, 2}


@pytest.mark.parametrize(
    "pattern",
    [
        {"mask": PrefixLM(2)},
        {"mask": Causal(bottom_right=True), "kv_packing": Packing.from_lengths((4, 9))},
        {"score": SoftCap(2.0) >> ALiBi(SLOPES)},
        {"mask": Causal(), "score": SoftCap(2.0), "scale": 0.0},
    ],
)
def test_patterns_that_run_by_this_kernel(pattern):
    spec = AttentionSpec(packing=Packing.from_lengths((3, 5)), **pattern)
    assert isinstance(NativeBackend().plan(spec, CPU).stage, MaskedEvents)


@pytest.mark.parametrize(
    "pattern",
    [
        {"mask": PrefixLM(2), "score": ScoreModFunction(lambda s, b, h, q, k: s + q)},
        {"score": ALiBi(SLOPES.clone().requires_grad_())},
        {"score": ALiBi(SLOPES) >> SoftCap(2.0)},
        {"mask": PrefixLM(2), "dropout": 0.5},
    ],
)
def test_other_patterns_run_otherwise(pattern):
    spec = AttentionSpec(packing=Packing.from_lengths((3, 5)), **pattern)
    assert NativeBackend().plan(spec, CPU).stage is None


def test_tables_that_are_too_large_are_not_made(monkeypatch):
    monkeypatch.setattr(masked, "MOST_ENTRIES", 10)
    given = tensors((3, 5), (3, 5), torch.float64)
    for mask, fits in ((PrefixLM(2), False), (SlidingWindow(1), True)):
        spec = spec_of((3, 5), (3, 5), mask)
        stage = stage_of(spec)
        assert stage.accepts(*given) == fits
        out = NativeBackend().attend(*given, spec, NativeBackend().plan(spec, CPU))
        torch.testing.assert_close(out, definition(*given, spec))


def test_second_derivatives():
    spec = spec_of((2, 4), (2, 4), PrefixLM(1), SCORES["cap"])
    stage, given = stage_of(spec), tensors((2, 4), (2, 4), torch.float64, 3)
    assert torch.autograd.gradgradcheck(lambda *x: stage(*x)[0], given)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_mapped_over_a_batch():
    """Where the formula runs, tables are not looked at."""
    spec = spec_of((3, 4), (3, 4), PrefixLM(1))
    plan = NativeBackend().plan(spec, CPU)
    x = torch.randn(2, 7, HEADS, 4, dtype=torch.float64)
    found = torch.vmap(lambda y: NativeBackend().attend(y, y, y, spec, plan))(x)
    for a, y in zip(found, x, strict=True):
        torch.testing.assert_close(a, definition(y, y, y, spec))
