"""What each backend makes of a pattern, where its kernels cannot run: checked entry by entry."""

from __future__ import annotations

import pytest
import torch

from lgatr.attention import (
    ALiBi,
    AttentionSpec,
    Causal,
    DenseBias,
    Packing,
    SlidingWindow,
    SoftCap,
    backends,
)
from lgatr.attention.backends import flash
from lgatr.attention.pattern.interop import from_bias
from lgatr.attention.pattern.positions import block_positions
from support import attention_reference as reference
from support.attention_cases import MASKS, packed_spec, storages
from support.attention_reference import HEADS, KEYS, LENGTHS

CUDA = torch.device("cuda")
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")


def refusal(name, spec):
    """Why a backend would not run the pattern on a machine that has its kernels."""
    backend = backends()[name]
    missing = spec.features() - backend.capabilities.features
    return f"lacks {sorted(missing)}" if missing else backend.unsupported(spec)


def spec_of(mask, cross):
    keys = KEYS if cross else LENGTHS
    if cross and mask == "column_ranges":
        pytest.skip("made for self-attention")
    spec = packed_spec(mask, keys=Packing.from_lengths(keys) if cross else None)
    return spec, reference.tables(mask, "none", LENGTHS, keys)[0]


both = pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
every_mask = pytest.mark.parametrize("mask", MASKS)


class TestXformers:
    fmha = property(lambda self: pytest.importorskip("xformers.ops").fmha)

    @pytest.fixture(autouse=True)
    def quiet(self):
        pytest.importorskip("xformers")

    def lowered(self, spec):
        return backends()["xformers"]().plan(spec, CPU)

    @both
    @every_mask
    @pytest.mark.filterwarnings("ignore")
    def test_packed(self, mask, cross):
        spec, allowed = spec_of(mask, cross)
        reason = refusal("xformers", spec)
        if reason is not None:
            pytest.skip(reason)
        bias = self.lowered(spec)
        assert torch.equal(bias.materialize(tuple(allowed.shape[1:])) == 0, allowed[0])

    def test_it_does_most_bands(self):
        able = {m for m in MASKS if refusal("xformers", packed_spec(m)) is None}
        assert able == {
            "none",
            "causal",
            "causal_bottom_right",
            "window_causal",
            "window_causal_bottom_right",
        }

    @pytest.mark.parametrize(
        "mask",
        [
            "none",
            "causal_bottom_right",
            "window_causal_bottom_right",
            "window_bottom_right",
        ],
    )
    @pytest.mark.parametrize("kind", ["padded", "gappy", "paged", "paged_later"])
    @pytest.mark.filterwarnings("ignore")
    def test_storages(self, kind, mask):
        storage, places = storages()[kind]
        spec = packed_spec(mask, keys=storage)
        reason = refusal("xformers", spec)
        if reason is not None:
            assert "window" in mask and kind != "padded"
            return
        live = torch.tensor([p for event in places for p in event])
        allowed = torch.zeros(sum(LENGTHS), 55, dtype=torch.bool)
        allowed[:, live] = reference.tables(mask, "none", LENGTHS, KEYS)[0][0]
        bias = self.lowered(spec)
        if kind.startswith("paged"):
            allowed = allowed[:, :50]  # it ends after the last page of the tables
        assert torch.equal(bias.materialize(tuple(allowed.shape)) == 0, allowed)
        assert from_bias(bias)["kv_packing"].index().tolist() == live.tolist()

    @both
    @every_mask
    @pytest.mark.filterwarnings("ignore")
    def test_masks_read_back(self, mask, cross):
        spec, allowed = spec_of(mask, cross)
        if refusal("xformers", spec) is not None:
            pytest.skip("not lowered")
        again = AttentionSpec(**from_bias(self.lowered(spec)))
        assert again.packing == spec.packing and again.key_packing == spec.key_packing
        assert torch.equal(allowed_of(again), allowed[0])

    @pytest.mark.parametrize(
        ("mask", "name"),
        [
            (None, None),
            (Causal(), "LowerTriangularMask"),
            (Causal(bottom_right=True), "LowerTriangularFromBottomRightMask"),
            (
                SlidingWindow(2, 0, bottom_right=True),
                "LowerTriangularFromBottomRightLocalAttentionMask",
            ),
            (SlidingWindow(2, 1, bottom_right=True), "LocalAttentionFromBottomRightMask"),
        ],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_dense(self, mask, name):
        spec = AttentionSpec(mask=mask)
        assert refusal("xformers", spec) is None
        bias = self.lowered(spec)
        assert (None if bias is None else type(bias).__name__) == name
        if mask is not None:
            at = block_positions(range(1), 1, range(4), range(6), (4, 6), (0, 0))
            assert torch.equal(bias.materialize((4, 6)) == 0, mask.allowed(at)[0, 0])
            at = block_positions(range(1), 1, range(4), range(4), (4, 4), (0, 0))
            again = from_bias(bias)["mask"]
            assert torch.equal(again.allowed(at), mask.allowed(at))

    @pytest.mark.filterwarnings("ignore")
    def test_causal_with_a_tensor(self):
        table = torch.randn(3, 2, 5, 5)
        spec = AttentionSpec(mask=Causal(), score=DenseBias(table))
        assert refusal("xformers", spec) is None
        backend = backends()["xformers"]()
        q = torch.randn(3, 5, 2, 8)
        _, options = backend._arguments(q, q, q, spec, backend.plan(spec, CPU))
        bias = options["attn_bias"]
        expected = table.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        torch.testing.assert_close(bias.materialize((3, 2, 5, 5)), expected)
        again = AttentionSpec(**from_bias(bias))
        assert again.causal and torch.equal(again.score.table, table)

    def test_unknown_class(self):
        with pytest.raises(TypeError, match="BlockDiagonalMask"):
            from_bias(object())


def allowed_of(spec):
    """The mask of a packed pattern, event by event."""
    blocks = []
    q = k = 0
    for i, (n, m) in enumerate(zip(spec.packing.lengths, spec.key_packing.lengths, strict=True)):
        at = block_positions(range(i, i + 1), 1, range(n), range(m), (n, m), (q, k))
        mask = torch.ones(1, dtype=torch.bool) if spec.mask is None else spec.mask.allowed(at)
        blocks.append(mask.expand(1, 1, n, m)[0, 0])
        q, k = q + n, k + m
    return torch.block_diag(*blocks).bool()


def window_mask(cu_q, cu_k, window):
    """What a kernel of flash-attention does with its arguments, by its documentation."""
    left, right = window
    allowed = torch.zeros(cu_q[-1], cu_k[-1], dtype=torch.bool)
    for q0, q1, k0, k1 in zip(cu_q, cu_q[1:], cu_k, cu_k[1:], strict=False):
        for i in range(q1 - q0):
            for j in range(k1 - k0):
                here = i + (k1 - k0) - (q1 - q0)
                if (left < 0 or j >= here - left) and (right < 0 or j <= here + right):
                    allowed[q0 + i, k0 + j] = True
    return allowed


class TestOffsets:
    @pytest.mark.parametrize("name", ["varlen", "flash"])
    @both
    @every_mask
    def test_packed(self, name, mask, cross):
        spec, allowed = spec_of(mask, cross)
        reason = refusal(name, spec)
        if reason is not None:
            pytest.skip(reason)
        if name == "varlen":
            cu_q, cu_k, max_q, max_k, window = backends()["varlen"]().plan(spec, CPU)
        else:
            a = flash.lower(spec, CPU, newest=False).arguments
            cu_q, cu_k = a["cu_seqlens_q"], a["cu_seqlens_k"]
            max_q, max_k = a["max_seqlen_q"], a["max_seqlen_k"]
            window = (-1, 0) if a["causal"] else a["window_size"]
        assert (max_q, max_k) == (max(LENGTHS), max(KEYS if cross else LENGTHS))
        assert cu_q.dtype == cu_k.dtype == torch.int32
        assert torch.equal(window_mask(cu_q.tolist(), cu_k.tolist(), window), allowed[0])

    @pytest.mark.parametrize("name", ["varlen", "flash"])
    def test_which_masks(self, name):
        bands = {m for m in MASKS if refusal(name, packed_spec(m)) is None}
        assert bands == {m for m in MASKS if m == "none" or m.startswith(("causal", "window"))}

    def test_flash_arguments(self):
        slopes = torch.tensor([0.5, 0.25])
        plan = flash.lower(AttentionSpec(score=ALiBi(slopes), dropout=0.1), CPU, newest=True)
        assert plan.module == "flash_attn" and plan.function == "flash_attn_func"
        assert torch.equal(plan.arguments["alibi_slopes"], slopes)
        assert plan.arguments["dropout_p"] == 0.1
        spec = AttentionSpec(score=SoftCap(5.0), scale=0.3, packing=Packing.from_lengths([2]))
        plan = flash.lower(spec, CPU, newest=True)
        assert (plan.module, plan.function) == ("flash_attn_interface", "flash_attn_varlen_func")
        assert (plan.arguments["softcap"], plan.arguments["softmax_scale"]) == (5.0, 0.3)

    def test_flash_refuses(self):
        learned = ALiBi(torch.ones(2, requires_grad=True))
        flash_backend = backends()["flash"]
        assert "gradients" in flash_backend.unsupported(AttentionSpec(score=learned))
        assert "dropout" in flash_backend.unsupported(
            AttentionSpec(score=SoftCap(1.0), dropout=0.1)
        )


class TestFlex:
    @both
    @every_mask
    def test_block_mask(self, mask, cross):
        from torch.nn.attention.flex_attention import create_mask

        spec, allowed = spec_of(mask, cross)
        lowering = backends()["flex"]().plan(spec, CPU)
        tokens = allowed.shape[1:]
        block_mask, _ = lowering.block_mask(*tokens)
        dense = create_mask(block_mask.mask_mod, 1, HEADS, *tokens, device="cpu")
        assert torch.equal(dense[0], allowed)

    @pytest.mark.parametrize("mask", [None, Causal(), SlidingWindow(40)])
    @both
    def test_blocks_cover_what_is_allowed(self, mask, cross):
        generator = torch.Generator().manual_seed(5)
        lengths = torch.randint(1, 300, (30,), generator=generator).tolist()
        keys = torch.randint(1, 300, (30,), generator=generator).tolist() if cross else lengths
        packing, kv = Packing.from_lengths(lengths), Packing.from_lengths(keys)
        spec = AttentionSpec(packing=packing, kv_packing=kv if cross else None, mask=mask)
        block_mask, _ = backends()["flex"]().plan(spec, CPU).block_mask(sum(lengths), sum(keys))
        allowed = allowed_of(spec)
        rows, columns = -(-sum(lengths) // 128), -(-sum(keys) // 128)
        padded = torch.zeros(rows * 128, columns * 128, dtype=torch.bool)
        padded[: sum(lengths), : sum(keys)] = allowed
        needed = padded.view(rows, 128, columns, 128).any(3).any(1)
        blocks = block_mask.to_dense()[0, 0].bool()
        assert not (needed & ~blocks).any()
        # An event's block of scores has about (n / 128 + 1)^2 blocks; nothing else is visited.
        assert blocks.sum() <= sum(
            (n / 128 + 2) * (m / 128 + 2) for n, m in zip(lengths, keys, strict=True)
        )

    def test_dense(self):
        from torch.nn.attention.flex_attention import create_mask

        mask = SlidingWindow(30) & Causal()
        lowering = backends()["flex"]().plan(AttentionSpec(mask=mask), CPU)
        block_mask, _ = lowering.block_mask(500, 500)
        at = block_positions(range(1), 1, range(500), range(500), (500, 500), (0, 0))
        dense = create_mask(block_mask.mask_mod, 1, 1, 500, 500, device="cpu")
        assert torch.equal(dense[0, 0], mask.allowed(at)[0, 0])
        assert block_mask.to_dense()[0, 0].sum() == 4 + 3
        lowering = backends()["flex"]().plan(AttentionSpec(), CPU)
        assert lowering.block_mask(500, 500)[0] is None

    def test_a_users_block_mask_is_used_as_it_is(self):
        from torch.nn.attention.flex_attention import create_block_mask

        from lgatr.attention import prepare_attention

        theirs = create_block_mask(
            lambda b, h, q, k: (q >= k) & (q - k < 9), None, None, 40, 40, "cpu"
        )
        values = [torch.randn(2, 40, 2, 8, dtype=torch.float64) for _ in range(3)]
        ours = prepare_attention(CPU, torch.float64, block_mask=theirs)(*values)
        same = prepare_attention(CPU, torch.float64, mask=SlidingWindow(8, 0))(*values)
        torch.testing.assert_close(ours, same)
        with torch.no_grad():
            attend = prepare_attention(CPU, torch.float32, block_mask=theirs, backend="flex")
        assert attend.plan.block_mask(40, 40)[0] is not None
        assert attend.plan.mask.block_mask.shape == theirs.shape


class TestNativeOnCuda:
    """Torch's kernel that takes offsets: its arguments, and its schema on tensors without data."""

    @both
    @every_mask
    def test_mask_types(self, mask, cross):
        from lgatr.attention.backends.native.torch_efficient import mask_type

        spec, allowed = spec_of(mask, cross)
        band = None if spec.mask is None else spec.mask.band()
        numbers = None if spec.mask is not None and band is None else mask_type(band)
        if numbers is None:
            pytest.skip("computed block by block")
        kind, window = numbers
        cu_q, cu_k = spec.packing.ptr.tolist(), spec.key_packing.ptr.tolist()
        allowed_by_kernel = torch.zeros_like(allowed[0])
        for q0, q1, k0, k1 in zip(cu_q, cu_q[1:], cu_k, cu_k[1:], strict=False):
            shift = (k1 - k0) - (q1 - q0) if kind == 2 else 0
            for i in range(q1 - q0):
                for j in range(k1 - k0):
                    behind = i + shift - j
                    seen = kind == 0 or (behind >= 0 and (window is None or behind < window))
                    allowed_by_kernel[q0 + i, k0 + j] = seen
        assert torch.equal(allowed_by_kernel, allowed[0])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("width", [36, 6])
    def test_schema(self, dtype, width):
        from lgatr.attention.backends.native.torch_efficient import efficient_attention

        packing = Packing.from_lengths(LENGTHS)
        q = torch.empty(sum(LENGTHS), 4, width, device="meta", dtype=dtype)
        k = torch.empty(sum(LENGTHS), 1, width, device="meta", dtype=dtype)
        packing = packing.to("meta")
        out = efficient_attention(q, k, k, packing, packing, (None, 0, False))
        assert out.shape == q.shape and out.dtype == dtype
