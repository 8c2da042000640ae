"""Attention inside events on CPUs, against its definition in float64."""

from __future__ import annotations

import pytest
import torch

from lgatr.attention.backends.native.cpu import MAX_KEYS
from lgatr.attention.backends.native.events import attention_of_events, events_stage
from lgatr.ops._runtime.cpu import has_native_kernels

pytestmark = pytest.mark.usefixtures("kernels")

LENGTHS = {
    "ragged": ((1, 20, 7, 64, 3), (1, 20, 7, 64, 3)),
    "blocks of queries": ((65, 200), (65, 200)),
    "cross": ((3, 1, 70), (17, 66, 2)),
    "repeats": ((5, 5, 5, 2, 5), (5, 5, 5, 2, 5)),
}


def definition(q, k, v, queries, keys, causal, scale):
    parts = []
    for x, y, z in zip(q.split(queries), k.split(keys), v.split(keys), strict=True):
        scores = torch.einsum("ihd,jhd->hij", x, y)
        scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
        if causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
            scores = scores.masked_fill(~seen, -torch.inf)
        parts.append(torch.einsum("hij,jhd->ihd", scores.softmax(-1), z))
    return torch.cat(parts)


def draw(queries, keys, heads, width, dtype):
    shapes = ((sum(queries), heads, width), *[(sum(keys), heads, width)] * 2)
    return [torch.randn(s, dtype=dtype, requires_grad=True) for s in shapes]


def exact(tensors):
    return [x.detach().double().requires_grad_() for x in tensors]


def agree(ours, theirs, dtype):
    for a, b in zip(ours, theirs, strict=True):
        tolerance = (1e-12 if dtype == torch.float64 else 3e-6) * float(b.detach().abs().max())
        torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("width", [1, 5, 16, 72])
@pytest.mark.parametrize(("causal", "scale"), [(False, None), (True, 0.3)])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_definition(lengths, causal, scale, width, dtype):
    tensors = draw(*lengths, 3, width, dtype)
    ours = attention_of_events(*tensors, *lengths, causal, scale)
    reference = exact(tensors)
    theirs = definition(*reference, *lengths, causal, scale)
    agree([ours], [theirs], dtype)
    probe = torch.randn_like(theirs)
    found = torch.autograd.grad(ours, tensors, probe.to(dtype))
    agree(found, torch.autograd.grad(theirs, reference, probe), dtype)


def test_second_derivatives():
    lengths = ((2, 3), (4, 1))
    tensors = draw(*lengths, 2, 3, torch.float64)
    assert torch.autograd.gradgradcheck(lambda *x: attention_of_events(*x, *lengths), tensors)


def test_strides(dtype):
    lengths = ((6, 9), (6, 9))
    joined = torch.randn(7, 2, 15, 3, dtype=dtype)  # width, heads, tokens, and which of three
    tensors = joined.permute(3, 2, 1, 0).unbind(0)
    agree(
        [attention_of_events(*tensors, *lengths)],
        [definition(*exact(tensors), *lengths, False, None)],
        dtype,
    )


def test_lengths_that_do_not_fit(kernels):
    tensors = draw((5,), (6,), 2, 4, torch.float32)
    if kernels == "native":
        with pytest.raises(ValueError, match="events have 4 queries and 6 keys"):
            attention_of_events(*tensors, (4,), (6,))


def test_large_scores(dtype):
    lengths = ((5, 40), (5, 40))
    q, k, v = (x.detach() for x in draw(*lengths, 2, 8, dtype))
    q, k = (40 * x for x in (q, k))
    q, k = q.requires_grad_(), k.requires_grad_()
    out = attention_of_events(q, k, v, *lengths)
    theirs = definition(*exact((q, k, v)), *lengths, False, None)
    # Scores of some thousand have an absolute error of 1e-4 in float32.
    tolerance = 1e-11 if dtype == torch.float64 else 1e-2
    torch.testing.assert_close(out.double(), theirs, rtol=0, atol=tolerance)
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (q, k)))


def test_what_is_no_number_stays_in_its_event(dtype):
    lengths = ((5, 6), (5, 6))
    q, k, v = (x.detach() for x in draw(*lengths, 2, 8, dtype))
    k[7, 1] = torch.nan
    out = attention_of_events(q, k, v, *lengths)
    assert out[:5].isfinite().all() and out[:, 0].isfinite().all()
    assert out[5:, 1].isnan().all()


def test_the_future_is_not_seen(dtype):
    lengths = ((20,), (20,))
    q, k, v = (x.detach() for x in draw(*lengths, 2, 8, dtype))
    before = attention_of_events(q, k, v, *lengths, causal=True)
    k[10:], v[10:] = 100.0, -7.0
    assert torch.equal(before[:10], attention_of_events(q, k, v, *lengths, causal=True)[:10])


def test_threads_change_nothing(dtype, kernels):
    if kernels == "torch":
        pytest.skip("torch adds up thread by thread")
    lengths = ((30, 9, 70), (30, 9, 70))
    tensors = draw(*lengths, 4, 12, dtype)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, threads):
            torch.set_num_threads(number)
            out = attention_of_events(*tensors, *lengths)
            found.append((out, *torch.autograd.grad(out.sum(), tensors)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("scale", [-0.5, 0.0])
def test_unusual_scales(scale, dtype):
    lengths = ((4, 6), (4, 6))
    tensors = draw(*lengths, 2, 4, dtype)
    ours = attention_of_events(*tensors, *lengths, False, scale)
    agree([ours], [definition(*exact(tensors), *lengths, False, scale)], dtype)


def test_what_the_kernels_do_not_take_goes_elsewhere(kernels):
    q, k, v = draw((9,), (9,), 2, 4, torch.float32)
    stage = events_stage((9,), (9,), False, None)
    assert stage.accepts(q, k, v) == has_native_kernels(q)
    assert not stage.accepts(q, k[:, :1], v[:, :1])
    assert not stage.accepts(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert events_stage((9,), (MAX_KEYS,), False, None) is not None
    assert events_stage((9,), (MAX_KEYS + 1,), False, None) is None
    assert events_stage((9,), (9,), False, -1.0) is None
