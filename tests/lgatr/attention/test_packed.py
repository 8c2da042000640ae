"""Packed batches equal events run one by one, on every backend that is available."""

from __future__ import annotations

import pytest
import torch

from lgatr import LGATr, Packing
from lgatr.attention import AttentionFallbackWarning, backends, prepare_attention
from support.slow import every

TIGHT = {torch.float64: 1e-12, torch.float32: 1e-5}
LENGTHS = {
    "ragged": [1, 2, 200, 17, 17, 3],
    "equal": [8, 8, 8],
    "single": [13],
    "ones": [1, 1, 1, 1],
    "very unequal": [1, 150, 1, 1],
    "unsorted repeats": [5, 9, 5, 9, 9],
}
AVAILABLE = [name for name, backend in backends().items() if backend.import_error() is None]

pytestmark = [
    pytest.mark.filterwarnings("ignore::lgatr.attention.AttentionFallbackWarning"),
    pytest.mark.usefixtures("kernels"),
]


@pytest.fixture
def network(dtype):
    return LGATr(
        num_blocks=2,
        in_mv_channels=2,
        out_mv_channels=1,
        hidden_mv_channels=4,
        in_s_channels=3,
        out_s_channels=2,
        hidden_s_channels=8,
        attention={"num_heads": 2},
        mlp={"mlp_ratio": 2},
    ).to(dtype)


def inputs(total, dtype):
    x = torch.randn(total, 2, 16, dtype=dtype, requires_grad=True)
    return x, torch.randn(total, 3, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("lengths", every(3, LENGTHS))
@pytest.mark.parametrize("backend", AVAILABLE)
def test_packed_equals_single_events(network, dtype, lengths, backend):
    lengths = LENGTHS[lengths]
    total = sum(lengths)
    x, s = inputs(total, dtype)
    packed, packed_s = network(x, s, packing=Packing.from_lengths(lengths), backend=backend)
    weight, weight_s = torch.randn_like(packed), torch.randn_like(packed_s)

    singles = [
        network(a[None], b[None]) for a, b in zip(x.split(lengths), s.split(lengths), strict=True)
    ]
    out = torch.cat([o[0] for o, _ in singles])
    out_s = torch.cat([o[0] for _, o in singles])
    for a, b in ((packed, out), (packed_s, out_s)):
        assert (a - b).abs().max() <= TIGHT[dtype] * max(1.0, float(b.detach().abs().max()))

    leaves = [x, s, *network.parameters()]
    gradients = [
        torch.autograd.grad((o * weight).sum() + (t * weight_s).sum(), leaves)
        for o, t in ((packed, packed_s), (out, out_s))
    ]
    for a, b in zip(*gradients, strict=True):
        assert (a - b).abs().max() <= TIGHT[dtype] * max(1.0, float(b.detach().abs().max()))


@pytest.mark.parametrize("backend", AVAILABLE)
def test_events_do_not_see_each_other(network, dtype, backend):
    lengths = [4, 30, 7, 7]
    x, s = inputs(sum(lengths), dtype)
    packing = Packing.from_lengths(lengths)
    before, _ = network(x, s, packing=packing, backend=backend)
    changed = x.detach().clone()
    changed[4:34] = torch.randn_like(changed[4:34])
    after, _ = network(changed, s, packing=packing, backend=backend)
    assert torch.equal(before[:4], after[:4]) and torch.equal(before[34:], after[34:])
    assert not torch.equal(before[4:34], after[4:34])


@pytest.mark.parametrize("backend", AVAILABLE)
def test_permutations(network, dtype, backend):
    lengths = [6, 1, 11]
    x, s = inputs(sum(lengths), dtype)
    out, _ = network(x, s, packing=Packing.from_lengths(lengths), backend=backend)
    events = list(torch.arange(sum(lengths)).split(lengths))
    order = [2, 0, 1]
    tokens = torch.cat([events[i][torch.randperm(lengths[i])] for i in order])
    packing = Packing.from_lengths([lengths[i] for i in order])
    permuted, _ = network(x[tokens], s[tokens], packing=packing, backend=backend)
    assert (permuted - out[tokens]).abs().max() <= TIGHT[dtype] * max(
        1.0, float(out.detach().abs().max())
    )


def dense_reference(q, k, v, allowed, scale=None):
    """Attention with the full matrix of scores, in float64."""
    q, k, v = (t.double().transpose(0, 1) for t in (q, k, v))
    k, v = k.expand(q.shape[0], -1, -1), v.expand(q.shape[0], -1, -1)
    scores = q @ k.transpose(1, 2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return (scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ v).transpose(0, 1)


@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("scale", [None, 0.2])
def test_attention_equals_dense_reference(dtype, backend, causal, kv_heads, scale):
    lengths = [1, 2, 40, 3, 3]
    total = sum(lengths)
    q = torch.randn(total, 4, 12, dtype=dtype)
    k, v = torch.randn(2, total, kv_heads, 12, dtype=dtype)
    packing = Packing.from_lengths(lengths)
    attend = prepare_attention(
        q.device, dtype, packing=packing, backend=backend, is_causal=causal, scale=scale
    )
    event = packing.batch_index()
    allowed = event[:, None] == event[None]
    if causal:
        allowed &= torch.ones(total, total, dtype=torch.bool).tril()
    expected = dense_reference(q, k, v, allowed, scale)
    torch.testing.assert_close(attend(q, k, v).double(), expected, rtol=1e-5, atol=1e-5)


def test_dense_batches_with_masks(network, dtype):
    x, s = torch.randn(2, 5, 2, 16, dtype=dtype), torch.randn(2, 5, 3, dtype=dtype)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[1, ..., 3:] = False
    out, _ = network(x, s, attn_mask=mask)
    short, _ = network(x[1:, :3], s[1:, :3])
    assert (out[1:, :3] - short).abs().max() <= TIGHT[dtype]


def test_xformers_mask_is_the_reference_mask():
    pytest.importorskip("xformers")
    lengths = [1, 5, 2]
    for causal in (False, True):
        spec = prepare_attention(
            torch.device("cpu"),
            torch.float32,
            packing=Packing.from_lengths(lengths),
            is_causal=causal,
        ).spec
        plan = backends()["xformers"]().plan(spec, torch.device("cpu"))
        event = Packing.from_lengths(lengths).batch_index()
        allowed = event[:, None] == event[None]
        if causal:
            allowed &= torch.ones(8, 8, dtype=torch.bool).tril()
        assert torch.equal(plan.materialize((8, 8)) == 0, allowed)


def test_user_bias_of_xformers_is_understood(network, dtype):
    fmha = pytest.importorskip("xformers.ops").fmha
    lengths = [3, 1, 6]
    x, s = inputs(10, dtype)
    bias = fmha.attn_bias.BlockDiagonalMask.from_seqlens(lengths)
    ours, _ = network(x, s, packing=Packing.from_lengths(lengths))
    theirs, _ = network(x[None], s[None], attn_bias=bias)
    torch.testing.assert_close(theirs[0], ours)


class TestErrors:
    def test_lengths_that_do_not_fit(self, network, dtype):
        x, s = inputs(10, dtype)
        with pytest.raises(ValueError, match="describes 9 tokens"):
            network(x, s, packing=Packing.from_lengths([4, 5]))

    def test_empty_event(self):
        with pytest.raises(ValueError, match="event 1 has 0 tokens"):
            Packing.from_lengths([3, 0, 2])

    def test_no_event(self):
        with pytest.raises(ValueError, match="at least one event"):
            Packing.from_lengths([])

    def test_too_many_tokens(self):
        with pytest.raises(ValueError, match="2\\^31"):
            Packing.from_lengths([2**30, 2**30, 1])

    def test_unknown_backend_lists_choices(self):
        with pytest.raises(ValueError, match="auto, flash, flex, native, varlen, xformers"):
            prepare_attention(torch.device("cpu"), torch.float32, backend="flasch")

    def test_unknown_keyword(self):
        with pytest.raises(TypeError, match="packing"):
            prepare_attention(torch.device("cpu"), torch.float32, pakking=None)

    def test_two_descriptions(self):
        with pytest.raises(ValueError, match="no dense mask"):
            prepare_attention(
                torch.device("cpu"),
                torch.float32,
                packing=Packing.from_lengths([2]),
                attn_mask=torch.ones(2, 2, dtype=torch.bool),
            )

    @pytest.mark.skipif("xformers" not in AVAILABLE, reason="xformers is not installed")
    @pytest.mark.skipif(torch.cuda.is_available(), reason="xformers runs here")
    def test_strict_refuses_the_fallback(self):
        cpu = torch.device("cpu")
        with pytest.raises(ValueError, match="usable here: native"):
            prepare_attention(cpu, torch.float32, backend="xformers", strict=True)
        with pytest.warns(AttentionFallbackWarning, match="no cpu kernel"):
            attend = prepare_attention(cpu, torch.float32, backend="xformers")
        assert attend.backend.name == "native" and attend.requested == "xformers"


class TestPacking:
    def test_batch_index_round_trip(self):
        packing = Packing.from_lengths([2, 1, 3])
        assert packing.batch_index().tolist() == [0, 0, 1, 2, 2, 2]
        assert Packing.from_batch_index(packing.batch_index()) == packing
        with pytest.raises(ValueError, match="rise"):
            Packing.from_batch_index(torch.tensor([0, 2]))

    def test_prepend(self):
        packing, new, old = Packing.from_lengths([2, 1]).prepend(2)
        assert packing.lengths == (4, 3) and packing.ptr.tolist() == [0, 4, 7]
        assert new.tolist() == [[0, 1], [4, 5]] and old.tolist() == [2, 3, 6]
