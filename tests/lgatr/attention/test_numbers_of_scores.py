"""Numbers added to scores: precise in every format, derivable in every mode, checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch.func import hessian, jvp

from lgatr import LGATr, Packing
from lgatr.attention import (
    ALiBi,
    MaskMod,
    PagedCache,
    PairwiseBias,
    RelativePosition,
    SoftCap,
    prepare_attention,
)
from lgatr.attention.pattern.scores import Bias
from support.attention_cases import MASKS, SCORES
from support.attention_reference import HEADS, LENGTHS, WIDTH

HALF = {torch.bfloat16: 0.03, torch.float16: 4e-3}
FAR = MaskMod(lambda b, h, q, k: (q - k).abs() >= 256)


def attend(q, k, v, **pattern):
    return prepare_attention(q.device, q.dtype, **pattern)(q, k, v)


def exactly(*inputs, **pattern):
    pattern = {
        name: given.map(torch.Tensor.double) if isinstance(given, Bias) else given
        for name, given in pattern.items()
    }
    return attend(*(x.double() for x in inputs), **pattern)


def tensors(tokens, keys=None, dtype=torch.float32, width=16):
    return [torch.randn(n, 2, width).to(dtype) for n in (tokens, keys or tokens, keys or tokens)]


SLOPES = torch.tensor([0.25, 0.0625])
MOMENTA = torch.randn(300, 4, generator=torch.Generator().manual_seed(1))
LARGE = {
    # Numbers near 100, whose differences decide.
    "alibi": ({"mask": FAR, "score": ALiBi(SLOPES)}, 600, None),
    "learned alibi": ({"mask": FAR, "score": ALiBi(SLOPES.clone().requires_grad_())}, 600, None),
    "alibi in 16 bits": ({"mask": FAR, "score": ALiBi(SLOPES.bfloat16())}, 600, None),
    "alibi across": ({"score": ALiBi(SLOPES)}, 500, 17),
    "table": ({"score": RelativePosition(100.0 + torch.randn(2, 9))}, 300, None),
    "pairs": (
        {"score": PairwiseBias(MOMENTA, torch.full((2, 4), 12.0))},
        300,
        None,
    ),
}


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", LARGE)
def test_large_biases_in_16_bits(name, dtype):
    """A bias rounded to the format of the queries, off by a quarter."""
    pattern, queries, keys = LARGE[name]
    inputs = tensors(queries, keys, dtype)
    packed = {"packing": Packing.from_lengths([queries])}
    if keys:
        packed["kv_packing"] = Packing.from_lengths([keys])
    ours, exact = attend(*inputs, **packed, **pattern), exactly(*inputs, **packed, **pattern)
    assert ours.dtype == dtype
    assert (ours.double() - exact).abs().max() <= HALF[dtype]


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_large_dense_bias_in_16_bits(dtype):
    inputs = [x.unsqueeze(0) for x in tensors(40, dtype=dtype)]
    bias = -100.0 + torch.randn(1, 2, 40, 40)
    ours = attend(*inputs, attn_mask=bias)
    exact = exactly(*inputs, attn_mask=bias.double())
    assert ours.dtype == dtype
    assert (ours.double() - exact).abs().max() <= HALF[dtype]


def test_gradients_of_learned_slopes_in_16_bits():
    inputs = [x.requires_grad_() for x in tensors(600, dtype=torch.bfloat16)]
    slopes = SLOPES.clone().requires_grad_()
    pattern = {"packing": Packing.from_lengths([600]), "mask": FAR}
    weight = torch.randn(600, 2, 16)
    (ours,) = torch.autograd.grad(
        (attend(*inputs, score=ALiBi(slopes), **pattern).float() * weight).sum(), slopes
    )
    exact = slopes.detach().double().requires_grad_()
    out = attend(*(x.double() for x in inputs), score=ALiBi(exact), **pattern)
    (theirs,) = torch.autograd.grad((out * weight).sum(), exact)
    assert (ours - theirs).abs().max() <= 0.02 * theirs.abs().max()


@pytest.mark.parametrize("chained", [False, True])
def test_numbers_in_float32_for_scores_in_float64(chained):
    """A bias computed in the format of its numbers, not of the scores."""
    inputs = tensors(600, dtype=torch.float64)
    slopes = torch.tensor([0.3, 0.07])
    score = ALiBi(slopes) >> ALiBi(slopes) if chained else ALiBi(slopes)
    pattern = {"packing": Packing.from_lengths([600]), "mask": FAR}
    ours = attend(*inputs, score=score, **pattern)
    theirs = attend(*inputs, score=score.map(torch.Tensor.double), **pattern)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", [*MASKS, *(name for name in SCORES if name != "none")])
def test_forward_mode(name):
    """Fused kernels, which have no forward derivatives."""
    events = Packing.from_lengths(LENGTHS)
    pattern = {"packing": events}
    if name in MASKS:
        pattern["mask"] = MASKS[name]()
    else:
        pattern["score"] = SCORES[name]()
    q, k, v, tangent = torch.randn(4, sum(LENGTHS), HEADS, WIDTH, dtype=torch.float64)

    def out(x):
        return attend(x, k, v, **pattern)

    _, pushed = jvp(out, (q,), (tangent,))
    expected = (out(q + 1e-6 * tangent) - out(q - 1e-6 * tangent)) / 2e-6
    torch.testing.assert_close(pushed, expected, rtol=1e-6, atol=1e-8)


def test_forward_mode_of_learned_numbers():
    q, k, v = torch.randn(3, 19, 2, 4, dtype=torch.float64)
    pattern = {"packing": Packing.from_lengths([3, 7, 9])}

    def total(slopes):
        return attend(q, k, v, score=ALiBi(slopes), **pattern).square().sum()

    second = hessian(total)(SLOPES.double())
    assert second.isfinite().all() and second.any()


FLOAT64 = torch.tensor([0.3, 0.7], dtype=torch.float64)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "score_mod",
    [
        lambda s, b, h, q, k: s + FLOAT64[h],
        lambda s, b, h, q, k: (s + FLOAT64[h]).half(),
    ],
    ids=["float64", "float16"],
)
def test_functions_that_return_other_formats(score_mod, dtype, dense):
    inputs = tensors(40, dtype=dtype)
    pattern = {} if dense else {"packing": Packing.from_lengths([15, 25])}
    if dense:
        inputs = [x.unsqueeze(0) for x in inputs]
    ours = attend(*inputs, score_mod=score_mod, **pattern)
    # Equal for all keys, so that it changes nothing.
    torch.testing.assert_close(ours, attend(*inputs, **pattern), rtol=2e-2, atol=2e-2)
    assert ours.dtype == dtype


@dataclass(frozen=True, eq=False)
class Own(Bias):
    result: Callable

    def bias(self, at):
        return self.result(at)


WHOLE = [lambda at: -(at.q - at.k).abs(), lambda at: 3, lambda at: 0.5, lambda at: at.q.int()]


@pytest.mark.parametrize("result", WHOLE, ids=["whole numbers", "int", "float", "int32"])
@pytest.mark.parametrize("capped", [False, True])
def test_biases_of_whole_numbers(result, capped):
    inputs, pattern = tensors(40), {"packing": Packing.from_lengths([15, 25])}
    cap = (SoftCap(3.0),) if capped else ()
    score, function = Own(result), lambda s, b, h, q, k: s + result(At(q, k))
    theirs = attend(*inputs, score_mod=function, **pattern) if not capped else None
    for part in cap:
        score = score >> part
        theirs = attend(
            *inputs, score_mod=lambda s, *at: 3.0 * torch.tanh(function(s, *at) / 3.0), **pattern
        )
    torch.testing.assert_close(attend(*inputs, score=score, **pattern), theirs)


class At:
    def __init__(self, q, k):
        self.q, self.k = q, k


@pytest.mark.parametrize(
    "result", [lambda at: at.q > at.k, lambda at: None, lambda at: "1", lambda at: at.q * 1j]
)
def test_biases_that_are_no_numbers(result):
    with pytest.raises(ValueError, match="the bias of Own returns real numbers"):
        attend(*tensors(9), packing=Packing.from_lengths([9]), score=Own(result))


@pytest.mark.parametrize("table", [torch.rand(1, 1, 5, 5) > 0.3, torch.randn(1, 2, 5, 5)])
def test_a_dimension_of_events_for_one_event(table):
    inputs = tensors(5)
    ours = attend(*inputs, attn_mask=table)
    torch.testing.assert_close(ours, attend(*inputs, attn_mask=table[0]))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_slopes_are_finite(value):
    with pytest.raises(ValueError, match="slopes of ALiBi are finite"):
        ALiBi(torch.tensor([value, 1.0]))


def test_slopes_that_change_before_the_backward_pass():
    """Gradients by other slopes than the outputs are."""
    q, k, v = (x.requires_grad_() for x in tensors(40))
    slopes = SLOPES.clone()
    out = attend(q, k, v, packing=Packing.from_lengths([15, 25]), score=ALiBi(slopes))
    slopes.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize(("first", "then"), [(2, 3), (2, 1)])
def test_a_cache_belongs_to_one_network(first, then):
    """A layer without the keys of earlier tokens."""

    def net(blocks):
        return LGATr(
            num_blocks=blocks, in_mv_channels=1, out_mv_channels=1, hidden_mv_channels=4,
            in_s_channels=0, out_s_channels=0, hidden_s_channels=8,
            attention={"num_heads": 2}, mlp={},
        )  # fmt: skip

    cache = PagedCache(pages=20, page_size=4)
    sequence = cache.new()
    options = {"packing": Packing.from_lengths([5]), "cache": (cache, [sequence])}
    x = torch.randn(5, 1, 16)
    with torch.no_grad():
        net(first)(x, **options)
        free = cache.free_pages
        with pytest.raises(ValueError, match="keys of 2 layers, and a network of .* cannot"):
            net(then)(x, **options)
        assert (cache.length(sequence), cache.free_pages, cache.layers) == (5, free, 2)
        net(first)(x, **options)
    assert cache.length(sequence) == 10
