"""Attention to parts of the keys, and merging, in our own shapes."""

from __future__ import annotations

import pytest
import torch

from lgatr.attention import (
    ALiBi,
    Causal,
    MaskMod,
    Packing,
    PaddedKeys,
    PagedCache,
    SoftCap,
    merge_attentions,
    partial_attention,
)
from support import attention_reference as reference

pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")
LENGTHS, HEADS = (3, 4), 2
PACKING = Packing.from_lengths(LENGTHS)
# The second event's first query has keys in no part, and its second none in the first part.
CUTS = [
    MaskMod(lambda b, h, q, k: (k < 2) & ~((b == 1) & (q < 2))),
    MaskMod(lambda b, h, q, k: (k >= 2) & ~((b == 1) & (q < 1))),
]


def inputs(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(7, HEADS, 6), (7, HEADS, 6), (7, HEADS, 4)]
    drawn = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    return [x.to(dtype).requires_grad_() for x in drawn]


def whole():
    allowed = torch.zeros(HEADS, 7, 7, dtype=torch.bool)
    allowed[:, :3, :3] = allowed[:, 5:, 3:] = allowed[:, 4, 5:] = True
    return allowed


def parts(values, **more):
    return [partial_attention(*values, packing=PACKING, mask=cut, **more) for cut in CUTS]


@pytest.mark.parametrize("stacked", [False, True])
def test_rows_without_keys(stacked):
    """Zeros, minus infinity and gradients of zero, whatever a part left where it had no key."""
    values = inputs()
    outs, lses = zip(*parts(values), strict=True)
    assert outs[0].shape == (7, HEADS, 4) and lses[0].shape == (7, HEADS)
    assert lses[0].dtype == torch.float64
    first = outs[0].masked_fill((lses[0] == -torch.inf).unsqueeze(-1), torch.nan)
    outs = (first, outs[1])
    given = (torch.stack(outs), torch.stack(lses)) if stacked else (outs, lses)
    out, lse = merge_attentions(*given)
    theirs, their_lse = reference.attention(*values, whole(), torch.zeros(()))
    torch.testing.assert_close(out, theirs, rtol=1e-11, atol=1e-11)
    assert (out[3] == 0).all() and (lse[3] == -torch.inf).all()
    alive = [0, 1, 2, 4, 5, 6]
    torch.testing.assert_close(lse[alive], their_lse[alive])
    probe = torch.randn_like(out)
    ours = torch.autograd.grad((out * probe).sum() + lse[alive].sum(), values)
    expected = torch.autograd.grad((theirs * probe).sum() + their_lse[alive].sum(), values)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_what_is_returned():
    outs, lses = zip(*parts(inputs(torch.float32)), strict=True)
    out, lse = merge_attentions(outs, lses, write_lse=False)
    assert lse is None and out.dtype == torch.float32
    out, lse = merge_attentions(outs, lses, output_dtype=torch.float64)
    assert out.dtype == torch.float64 and lse.dtype == torch.float32
    half, lse = merge_attentions([o.bfloat16() for o in outs], lses)
    assert half.dtype == torch.bfloat16 and lse.dtype == torch.float32
    torch.testing.assert_close(half.double(), out.double(), rtol=2e-2, atol=2e-2)
    one, its_lse = merge_attentions(outs[:1], lses[:1])
    assert torch.equal(one, outs[0]) and torch.equal(its_lse, lses[0])


def test_large_scores():
    """No exponential overflows."""
    lses = torch.tensor([[[1000.0]], [[1001.0]]], dtype=torch.float64)
    outs = torch.tensor([[[[1.0]]], [[[2.0]]]], dtype=torch.float64)
    out, lse = merge_attentions(outs, lses)
    share = 1 / (1 + torch.exp(torch.tensor(-1.0, dtype=torch.float64)))
    torch.testing.assert_close(out.squeeze(), 1 + share)
    torch.testing.assert_close(lse.squeeze(), 1001 - share.log())


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.2},
        {"score": SoftCap(0.7)},
        {"score": ALiBi.geometric(HEADS) >> SoftCap(1.5)},
        {"score_mod": lambda s, b, h, q, k: s + 0.1 * (q - 2 * k)},
        {"backend": "native"},
    ],
    ids=lambda o: next(iter(o)),
)
def test_options(options):
    from lgatr.attention import prepare_attention

    values = inputs()
    out, _ = merge_attentions(*zip(*parts(values, **options), strict=True))
    mask = CUTS[0] | CUTS[1]
    one = prepare_attention(out.device, out.dtype, packing=PACKING, mask=mask, **options)(*values)
    torch.testing.assert_close(out, one, rtol=1e-11, atol=1e-11)


def test_stored_keys_and_causality():
    q, k, v = inputs()
    stored = []
    for x in (k, v):
        room = torch.full((10, *x.shape[1:]), 9.0, dtype=x.dtype)
        stored.append(room.index_put((torch.tensor([0, 1, 2, 5, 6, 7, 8]),), x))
    keys = PaddedKeys(5, LENGTHS)
    out, lse = partial_attention(
        q, *stored, packing=PACKING, kv_packing=keys, mask=Causal(bottom_right=True)
    )
    allowed = torch.block_diag(*(torch.ones(n, n).tril() for n in LENGTHS)).bool()
    theirs, their_lse = reference.attention(q, k, v, allowed.expand(HEADS, 7, 7), torch.zeros(()))
    torch.testing.assert_close(out, theirs)
    torch.testing.assert_close(lse, their_lse)


def test_dense():
    q, k, v = (x.detach().view(1, 7, HEADS, -1).expand(3, -1, -1, -1) for x in inputs())
    out, lse = partial_attention(q, k, v)
    assert out.shape == (3, 7, HEADS, 4) and lse.shape == (3, 7, HEADS)
    every = torch.ones(HEADS, 7, 7).bool()
    theirs, their_lse = reference.attention(q[0], k[0], v[0], every, torch.zeros(()))
    torch.testing.assert_close(out[2], theirs)
    torch.testing.assert_close(lse[2], their_lse)


def test_format_to_compute_in():
    values = inputs(torch.float32)
    exact, rounded = (
        partial_attention(*values, packing=PACKING, compute_dtype=dtype)
        for dtype in (None, torch.bfloat16)
    )
    half = partial_attention(*(x.bfloat16() for x in values), packing=PACKING)
    assert rounded[0].dtype == rounded[1].dtype == torch.float32
    assert torch.equal(rounded[0], half[0].float()) and torch.equal(rounded[1], half[1])
    assert 0 < (rounded[0] - exact[0]).abs().max() < 0.05
    wide = partial_attention(*values, packing=PACKING, compute_dtype="float64")
    assert wide[0].dtype == torch.float32 and wide[1].dtype == torch.float64


def test_refused():
    q, k, v = inputs()
    out, lse = partial_attention(q, k, v, packing=PACKING)
    for outs, lses, words in (
        ([out], [lse, lse], "1 outputs and 2 log-sum-exps"),
        ([out], [lse.T], "cannot be merged"),
        ([out, out[:3]], [lse, lse[:3]], "cannot be merged"),
        (torch.stack([out]), lse, "cannot be merged"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            merge_attentions(outs, lses)
        assert "\n" not in str(caught.value)
    cache = PagedCache(4, 16)
    with pytest.raises(ValueError, match="no cache"):
        partial_attention(q, k, v, packing=PACKING, cache=(cache, [cache.new()] * 2))
