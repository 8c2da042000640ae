"""xFormers' functions, shapes and arguments, against dense attention in float64."""

from __future__ import annotations

import inspect
import warnings

import pytest
import torch

from lgatr.attention import AttentionFallbackWarning, memory_efficient_attention
from lgatr.attention import memory_efficient as ours

pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")

SHAPES = {3: (2, 5, 6), 4: (2, 5, 3, 6), 5: (2, 5, 2, 3, 6)}
KEYS, WIDTH = 7, 4


def reference(q, k, v, bias=0.0, scale=None):
    """Output shaped like the query, and log-sum-exp ``[B, G, H, M]``."""
    shape = (*q.shape[:-1], v.shape[-1])
    q, k, v = (
        x[:, :, None, None] if x.dim() == 3 else x[:, :, None] if x.dim() == 4 else x
        for x in (q.double(), k.double(), v.double())
    )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.einsum("bmghk,bnghk->bghmn", q, k) * scale + bias
    top = scores.amax(-1, keepdim=True).detach().clamp(min=-1e30)
    weights = torch.exp(scores - top)
    total = weights.sum(-1, keepdim=True)
    dead = total == 0
    out = torch.einsum("bghmn,bnghk->bmghk", weights / total.masked_fill(dead, 1.0), v)
    return out.reshape(shape), (torch.log(total) + top).masked_fill(dead, -torch.inf)[..., 0]


def tensors(dims, keys=KEYS, width=WIDTH, shape=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query = SHAPES[dims] if shape is None else shape
    key = (query[0], keys, *query[2:])
    value = (*key[:-1], width)
    return [
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True)
        for s in (query, key, value)
    ]


def gradients(out, inputs, seed=1):
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).double()
    return torch.autograd.grad((out * probe).sum(), inputs)


def agree(a, b, tolerance=1e-11):
    torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("scale", [None, 0.3, -1.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dims", [3, 4, 5])
def test_every_shape(dims, biased, scale):
    inputs = tensors(dims)
    q, k, v = inputs
    bias, table = None, 0.0
    if biased:
        shape = (2, *q.shape[2:-1], 5, KEYS)
        bias = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        table = bias.view(2, *([1] * (5 - dims)), *shape[1:])
        inputs = [*inputs, bias]
    out = memory_efficient_attention(q, k, v, bias, 0.0, scale)
    theirs, lse = reference(q, k, v, table, scale)
    agree(out, theirs)
    for a, b in zip(gradients(out, inputs), gradients(theirs, inputs), strict=True):
        agree(a, b)
    again, own_lse = ours.memory_efficient_attention_forward_requires_grad(
        q, k, v, bias, scale=scale
    )
    agree(again, theirs.detach())
    assert own_lse.shape == {3: (2, 1, 5), 4: (2, 3, 5), 5: (2, 2, 3, 5)}[dims]
    agree(own_lse, lse.detach().reshape(own_lse.shape))
    assert not again.requires_grad and not own_lse.requires_grad
    forward = ours.memory_efficient_attention_forward(q, k, v, bias, scale=scale)
    assert torch.equal(forward, out) and not forward.requires_grad


def test_keys_that_groups_share_are_not_copied(monkeypatch):
    q = torch.randn(2, 5, 2, 4, 8)
    k, v = (torch.randn(2, 7, 2, 1, 8).expand(2, 7, 2, 4, 8) for _ in range(2))
    shapes = []
    attend = ours.prepare

    def watched(*arguments):
        call = attend(*arguments)
        shapes.append(call.k.shape)
        return call

    monkeypatch.setattr(ours, "prepare", watched)
    agree(memory_efficient_attention(q, k, v), reference(q, k, v)[0], 1e-5)
    assert shapes == [(2, 7, 2, 8)]


def paged(biases, kind, queries, starts, lengths):
    """Three events whose keys lie in two of six pages of 4 each."""
    tables = torch.tensor([[4, 1], [0, 3], [2, 5]], dtype=torch.int32)
    if "Gappy" not in kind.__name__:
        return kind.from_seqlens(queries, lengths, tables, 4)
    starts = [8 * i + s for i, s in enumerate(starts)]
    unpaged = biases.BlockDiagonalGappyKeysMask.from_seqlens(queries, [*starts, 24], lengths)
    return unpaged.make_paged(tables, 4, 8, kind)


def build(biases, name, empty=False):
    """An object of each class: three events, 2 + 3 + 1 queries, and its number of keys."""
    kind, queries, keys = getattr(biases, name), [2, 3, 1], [4, 5, 1]
    if empty:
        keys = [4, 0, 1] if "BottomRight" not in name else keys
        queries = [2, 3, 1] if 0 in keys else [0, 5, 1]
    window = {"_window_size": 2} if "CausalLocal" in name else {}
    if "Paged" in name:
        return paged(biases, kind, queries, (1, 0, 5), keys), 24
    if "Gappy" in name:
        return kind.from_seqlens(queries, [1, 8, 20, 24], keys), 24
    if "PaddedKeys" in name:
        if "Local" not in name:
            return kind.from_seqlens(queries, 6, keys), 18
        reach = (2,) if "Causal" in name else (2, 1)
        return kind.from_seqlens_local(queries, 6, keys, *reach), 18
    if name.startswith("BlockDiagonal"):
        plain = biases.BlockDiagonalMask.from_seqlens(queries, keys)
        info = {"q_seqinfo": plain.q_seqinfo, "k_seqinfo": plain.k_seqinfo}
        return kind(**info, **window), sum(keys)
    if name == "LocalAttentionFromBottomRightMask":
        return kind(2, 1), 8
    if name == "LowerTriangularFromBottomRightLocalAttentionMask":
        return kind(3), 8
    return kind(), 8


CLASSES = [
    "BlockDiagonalCausalFromBottomRightMask",
    "BlockDiagonalCausalLocalAttentionFromBottomRightMask",
    "BlockDiagonalCausalLocalAttentionMask",
    "BlockDiagonalCausalLocalAttentionPaddedKeysMask",
    "BlockDiagonalCausalMask",
    "BlockDiagonalCausalWithOffsetGappyKeysMask",
    "BlockDiagonalCausalWithOffsetPaddedKeysMask",
    "BlockDiagonalGappyKeysMask",
    "BlockDiagonalLocalAttentionPaddedKeysMask",
    "BlockDiagonalMask",
    "BlockDiagonalPaddedKeysMask",
    "LocalAttentionFromBottomRightMask",
    "LowerTriangularFromBottomRightLocalAttentionMask",
    "LowerTriangularFromBottomRightMask",
    "LowerTriangularMask",
    "PagedBlockDiagonalCausalWithOffsetGappyKeysMask",
    "PagedBlockDiagonalCausalWithOffsetPaddedKeysMask",
    "PagedBlockDiagonalGappyKeysMask",
    "PagedBlockDiagonalPaddedKeysMask",
]


class TestMaskClasses:
    def test_these_are_all(self, biases):
        found = {
            name
            for name, kind in vars(biases).items()
            if inspect.isclass(kind) and issubclass(kind, biases.AttentionBias)
        }
        assert found - {"AttentionBias"} == {*CLASSES, "LowerTriangularMaskWithTensorBias"}
        q = torch.randn(1, 4, 1, 8)
        with pytest.raises(TypeError, match="attn_bias of type AttentionBias is not supported"):
            memory_efficient_attention(q, q, q, biases.AttentionBias())

    @pytest.mark.parametrize("empty", [False, True], ids=["full", "empty event"])
    @pytest.mark.parametrize("dims", [4, 5])
    @pytest.mark.parametrize("name", CLASSES)
    def test_as_it_materializes(self, biases, name, dims, empty):
        if empty and "BlockDiagonal" not in name:
            pytest.skip("one event")
        if empty and name == "BlockDiagonalCausalLocalAttentionMask":
            pytest.skip("xFormers refuses to build it")
        mask, keys = build(biases, name, empty)
        bias = mask.materialize((6, keys)).double()
        assert bias.shape == (6, keys)
        shape = (1, 6, 2, 4) if dims == 4 else (1, 6, 2, 2, 4)
        inputs = tensors(dims, keys, 6, shape)
        out = memory_efficient_attention(*inputs, attn_bias=mask)
        theirs, lse = reference(*inputs, bias)
        agree(out, theirs)
        for a, b in zip(gradients(out, inputs), gradients(theirs, inputs), strict=True):
            agree(a, b)
        own, own_lse = ours.memory_efficient_attention_forward_requires_grad(*inputs, mask)
        agree(own, theirs)
        scaled = memory_efficient_attention(*inputs, attn_bias=mask, scale=0.1)
        agree(scaled, reference(*inputs, bias, 0.1)[0])
        agree(own_lse, lse.detach().reshape(own_lse.shape))

    @pytest.mark.parametrize("dims", [3, 4, 5])
    def test_causal_with_a_tensor(self, biases, dims):
        inputs = tensors(dims, keys=5)
        shape = (2, *inputs[0].shape[2:-1], 5, 5)
        table = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        mask = biases.LowerTriangularMask().add_bias(table)
        bias = table.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        out = memory_efficient_attention(*inputs, attn_bias=mask)
        theirs, _ = reference(*inputs, bias.view(2, *([1] * (5 - dims)), *shape[1:]))
        agree(out, theirs)
        inputs = [*inputs, table]
        for a, b in zip(gradients(out, inputs), gradients(theirs, inputs), strict=True):
            agree(a, b)

    def test_a_batch_of_one(self, biases):
        q = torch.randn(2, 6, 1, 4)
        with pytest.raises(ValueError, match="BlockDiagonalMask takes .* batch of 1, not of 2"):
            memory_efficient_attention(q, q, q, biases.BlockDiagonalMask.from_seqlens([2, 4]))


class TestParts:
    """Keys 0 to 3 and 3 to 7; some queries have none in the first part, and one in neither."""

    CUTS = ((0, 3), (3, 7))

    def parts(self, dims, function, **options):
        q, k, v = tensors(dims)
        bias = torch.zeros(2, *q.shape[2:-1], 5, KEYS, dtype=torch.float64)
        bias[..., 1, :3] = -torch.inf
        bias[..., 4, :] = -torch.inf
        cut = [(k[:, a:b], v[:, a:b], bias[..., a:b].contiguous()) for a, b in self.CUTS]
        return (q, k, v), bias, [function(q, *part, **options) for part in cut]

    @pytest.mark.parametrize("stacked", [False, True])
    @pytest.mark.parametrize("dims", [4, 5])
    def test_they_merge(self, dims, stacked):
        inputs, bias, parts = self.parts(dims, ours.memory_efficient_attention_partial)
        outs, lses = zip(*parts, strict=True)
        if stacked:
            outs, lses = torch.stack(outs), torch.stack(lses)
        out, lse = ours.merge_attentions(outs, lses)
        theirs, their_lse = reference(*inputs, bias.view(2, *([1] * (5 - dims)), *bias.shape[1:]))
        agree(out, theirs)
        agree(lse, their_lse.reshape(lse.shape))
        assert out[:, 4].abs().max() == 0
        for a, b in zip(gradients(out, inputs), gradients(theirs, inputs), strict=True):
            agree(a, b)
        without = ours.merge_attentions(outs, lses, write_lse=False, output_dtype=torch.float32)
        assert without[1] is None and without[0].dtype == torch.float32

    @pytest.mark.parametrize("dims", [3, 4, 5])
    def test_gradients_of_parts_add_up(self, dims):
        """As for keys on several machines: each knows the output and log-sum-exp of all."""
        inputs, bias, _ = self.parts(dims, lambda *x: None)
        q, k, v = inputs
        whole = ours.memory_efficient_attention_forward_requires_grad(q, k, v, bias)
        theirs, _ = reference(q, k, v, bias.view(2, *([1] * (5 - dims)), *bias.shape[1:]))
        grad = torch.randn(theirs.shape, dtype=torch.float64)
        expected = torch.autograd.grad((theirs * grad).sum(), inputs)
        found = [torch.zeros_like(x) for x in inputs]
        for a, b in self.CUTS:
            part = (k[:, a:b], v[:, a:b], bias[..., a:b].contiguous())
            dq, dk, dv = ours.memory_efficient_attention_backward(grad, *whole, q, *part)
            found[0] += dq
            found[1][:, a:b] += dk
            found[2][:, a:b] += dv
        for x, y in zip(found, expected, strict=True):
            agree(x, y)

    def test_gradients_of_events(self, biases):
        inputs = tensors(4, 10, 6, (1, 6, 2, 4))
        mask = biases.BlockDiagonalMask.from_seqlens([2, 3, 1], [4, 5, 1])
        whole = ours.memory_efficient_attention_forward_requires_grad(*inputs, mask)
        assert whole[1].shape == (1, 2, 6)
        grad = torch.randn(whole[0].shape, dtype=torch.float64)
        theirs, _ = reference(*inputs, mask.materialize((6, 10)).double())
        expected = torch.autograd.grad((theirs * grad).sum(), inputs)
        found = ours.memory_efficient_attention_backward(grad, *whole, *inputs, mask)
        for x, y in zip(found, expected, strict=True):
            agree(x, y)

    def test_formats(self):
        q = torch.randn(1, 40, 2, 8).bfloat16()
        exact, _ = reference(q, q, q)
        out, lse = ours.memory_efficient_attention_partial(q, q, q)
        assert out.dtype == lse.dtype == torch.float32
        agree(out, exact, 1e-5)
        agree(memory_efficient_attention(q, q, q, output_dtype=torch.float32), exact, 1e-5)
        assert memory_efficient_attention(q, q, q).dtype == torch.bfloat16
        half = memory_efficient_attention(q.float(), q.float(), q.float(), output_dtype=torch.half)
        assert half.dtype == torch.float16
        assert ours.memory_efficient_attention_partial(q, q, q, output_dtype=torch.bfloat16)[
            0
        ].dtype == (torch.bfloat16)

    def test_shapes_of_the_other_kind(self):
        with pytest.raises(ValueError, match=r"\[B, M, H, K\] with \[B, H, M\]"):
            ours.merge_attentions([torch.zeros(1, 4, 2, 8)], [torch.zeros(1, 4, 2)])


def test_dropout():
    """Dropped weights are those of the seed; the mean over many draws is attention."""
    q, k, _ = (x.detach() for x in tensors(4))
    v = torch.eye(KEYS, dtype=torch.float64)[None, :, None].expand(2, KEYS, 3, KEYS)
    torch.manual_seed(0)
    first = memory_efficient_attention(q, k, v, p=0.25)
    torch.manual_seed(0)
    assert torch.equal(first, ours.memory_efficient_attention_forward(q, k, v, p=0.25))
    draws = torch.stack([memory_efficient_attention(q, k, v, p=0.25) for _ in range(300)])
    exact = reference(q, k, v)[0]
    assert abs((draws == 0).double().mean() - 0.25) < 0.01
    spread = exact * (0.25 / 0.75 / 300) ** 0.5
    assert (((draws.mean(0) - exact) / spread).abs() < 6).all()
    for function in (
        ours.memory_efficient_attention_partial,
        ours.memory_efficient_attention_forward_requires_grad,
    ):
        with pytest.raises(NotImplementedError, match="call memory_efficient_attention"):
            function(q, k, v, p=0.1)


class TestOperators:
    """On a CPU, operators of xFormers mean its backend, which computes natively and says so."""

    @pytest.mark.filterwarnings("ignore::lgatr.attention.AttentionFallbackWarning")
    def test_a_pair(self, biases):
        cutlass = pytest.importorskip("xformers.ops").fmha.cutlass
        q = torch.randn(1, 6, 2, 8)
        exact = memory_efficient_attention(q, q, q)
        for op in ((cutlass.FwOp, cutlass.BwOp), (cutlass.FwOp, None), (None, None)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert torch.equal(memory_efficient_attention(q, q, q, op=op), exact)
            kinds = [w.category for w in caught]
            assert AttentionFallbackWarning in kinds
        out, _ = ours.memory_efficient_attention_partial(q, q, q, op=cutlass.FwOp)
        agree(out, exact.double(), 1e-6)

    def test_anything_else(self):
        q = torch.randn(1, 6, 2, 8)
        for op in ("cutlass", torch.nn.Linear, (None,), [None, None]):
            with pytest.raises(TypeError, match="op is None or operators of xFormers"):
                memory_efficient_attention(q, q, q, op=op)
        with pytest.raises(TypeError, match="one of them"):
            ours.memory_efficient_attention_forward(q, q, q, op=(None, None))
