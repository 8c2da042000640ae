"""Every mask and score on every backend, against attention from its definition."""

from __future__ import annotations

import itertools

import pytest
import torch

from lgatr.attention import (
    ALiBi,
    AttentionSpec,
    Causal,
    ColumnRanges,
    GlobalTokens,
    MaskMod,
    Neighbourhood,
    Packing,
    PrefixLM,
    RelativePosition,
    ShiftedWindows,
    SlidingWindow,
    SoftCap,
    merge_attentions,
    partial_attention,
    prepare_attention,
)
from support import attention_reference as reference
from support.attention_cases import (
    DTYPES,
    MASKS,
    ON_SELF_ONLY,
    SCORES,
    SLOPES,
    agree,
    compare_with_definition,
    packed_spec,
    storages,
    tensors,
    with_gradients,
)
from support.attention_reference import HEADS, KEYS, LENGTHS, WIDTH
from support.slow import slow_but_for

pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")


def combinations():
    """Every mask with every score in one of the formats, and each of both alone in all of them.

    A mask or a score that is wrong shows alone; two that disturb each other show in any format, in
    self- or cross-attention. The rest of the product is slow.
    """
    found = []
    for i, mask in enumerate(MASKS):
        for j, score in enumerate(SCORES):
            pairable = not {mask, score} & ON_SELF_ONLY
            for cross, dtype in itertools.product((False, True)[: 1 + pairable], DTYPES):
                alone = "none" in (mask, score)
                chosen = alone or (dtype, cross) == (DTYPES[j % 3], pairable and i % 2 == 1)
                marks = [] if chosen else [pytest.mark.slow]
                name = f"{mask}-{score}-{'cross' if cross else 'self'}-{str(dtype)[6:]}"
                found.append(pytest.param(mask, score, cross, dtype, marks=marks, id=name))
    return found


@pytest.mark.parametrize(("mask", "score", "cross", "dtype"), combinations())
def test_native_equals_the_definition(mask, score, cross, dtype):
    compare_with_definition("native", mask, score, cross, dtype)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("mask", ["none", "causal", "longformer"])
def test_queries_share_keys(mask, heads):
    values = tensors(LENGTHS, LENGTHS, torch.float64, heads)
    attend = prepare_attention(torch.device("cpu"), torch.float64, spec=packed_spec(mask))
    agree(
        attend(*values),
        reference.attention(*values, *reference.tables(mask, "none"))[0],
        torch.float64,
    )


@pytest.mark.parametrize("mask", [m for m in MASKS if m != "column_ranges"])
@pytest.mark.parametrize("batch", [(3,), (2, 2)], ids=str)
def test_dense_batches_count_positions_in_each_event(mask, batch):
    items, events = 6, torch.Size(batch).numel()
    if mask == "prefix_lm":
        kind = PrefixLM(torch.tensor(reference.PREFIXES[:events]))
    else:
        kind = MASKS[mask]()
    values = [torch.randn(*batch, items, HEADS, WIDTH, dtype=torch.float64) for _ in range(3)]
    attend = prepare_attention(torch.device("cpu"), torch.float64, mask=kind)
    flat = [x.flatten(0, -3) for x in values]
    allowed, bias = reference.tables(mask, "none", (items,) * events, (items,) * events)
    theirs = reference.attention(*flat, allowed, bias)[0]
    agree(attend(*values).flatten(0, -3), theirs, torch.float64)


def test_dense_tensors_combine_with_masks_and_scores():
    events, items = 3, 5
    values = [torch.randn(events, items, HEADS, WIDTH, dtype=torch.float64) for _ in range(3)]
    table = torch.rand(events, 1, items, items) < 0.7
    bias = torch.randn(1, HEADS, 1, items, dtype=torch.float64)
    attend = prepare_attention(
        torch.device("cpu"),
        torch.float64,
        mask=Causal() & MaskMod(lambda b, h, q, k: table[b, 0, q, k]),
        attn_bias=None,
        score=SoftCap(1.5),
    )
    allowed, zero = reference.tables("causal", "none", (items,) * events, (items,) * events)
    for i in range(events):
        part = slice(i * items, (i + 1) * items)
        allowed[:, part, part] &= table[i]
    flat = [x.flatten(0, 1) for x in values]
    change = reference.SCORES["softcap"][1]
    theirs = reference.attention(*flat, allowed, zero, change)[0]
    agree(attend(*values).flatten(0, 1), theirs, torch.float64)
    summed = prepare_attention(
        torch.device("cpu"), torch.float64, attn_bias=bias, score=ALiBi(SLOPES)
    )
    allowed, slopes = reference.tables("none", "alibi", (items,) * events, (items,) * events)
    theirs = reference.attention(*flat, allowed, slopes + bias[0].repeat(1, 1, events))[0]
    agree(summed(*values).flatten(0, 1), theirs, torch.float64)


@pytest.mark.parametrize("mask", ["none", "causal_bottom_right", "longformer"])
@pytest.mark.parametrize("kind", ["padded", "gappy", "paged", "paged_later"])
def test_keys_in_a_storage(kind, mask):
    storage, places = storages()[kind]
    q = torch.randn(sum(LENGTHS), HEADS, WIDTH, dtype=torch.float64)
    k, v = torch.randn(2, 55, HEADS, WIDTH, dtype=torch.float64)
    live = torch.tensor([p for event in places for p in event])
    attend = prepare_attention(q.device, q.dtype, spec=packed_spec(mask, keys=storage))
    allowed, bias = reference.tables(mask, "none", LENGTHS, KEYS)
    agree(
        attend(q, k, v), reference.attention(q, k[live], v[live], allowed, bias)[0], torch.float64
    )


class TestLongEvents:
    """Blocks of queries, recomputed in the backward pass."""

    LENGTHS = (1300, 40, 700)
    MASKS = {
        "window": lambda: SlidingWindow(70, 30),
        "longformer": lambda: SlidingWindow(40) | GlobalTokens(3),
        "swin": lambda: ShiftedWindows(64, 32),
        "neighbourhood": lambda: Neighbourhood(51),
        "nothing for some": lambda: SlidingWindow(20) & MaskMod(lambda b, h, q, k: q % 7 != 0),
    }

    @pytest.mark.parametrize("mask", slow_but_for(["longformer", "nothing for some"], MASKS))
    def test_equal_to_all_scores_at_once(self, mask):
        packing, mask = Packing.from_lengths(self.LENGTHS), self.MASKS[mask]()
        heads, tokens = 2, sum(self.LENGTHS)
        table = torch.randn(heads, 9, dtype=torch.float64, requires_grad=True)
        score = RelativePosition(table) >> SoftCap(3.0)
        values = [torch.randn(tokens, heads, 4, dtype=torch.float64) for _ in range(3)]
        probe = torch.randn(tokens, heads, 4, dtype=torch.float64)
        spec = AttentionSpec(packing=packing, mask=mask, score=score)
        attend = prepare_attention(torch.device("cpu"), torch.float64, spec=spec)
        out, gradients = with_gradients(attend, values, probe, [table])
        event = packing.batch_index()
        q = torch.arange(tokens) - packing.ptr[event]
        lengths = packing.ptr.diff()[event]
        from lgatr.attention.pattern.positions import Positions

        at = Positions(
            event[:, None], torch.arange(heads)[:, None, None], q[:, None], q[None],
            lengths[:, None], lengths[None], None, None,
        )  # fmt: skip
        allowed = (event[:, None] == event[None]) & mask.allowed(at)
        distance = (q[None] - q[:, None]).clamp(-4, 4) + 4
        theirs, their_gradients = with_gradients(
            lambda a, b, c: reference.attention(
                a, b, c, allowed, table[:, distance], lambda s: 3.0 * torch.tanh(s / 3.0)
            )[0],
            values,
            probe,
            [table],
        )
        agree(out, theirs, torch.float64)
        for a, b in zip(gradients, their_gradients, strict=True):
            agree(a, b, torch.float64)

    def test_column_ranges_of_documents_equal_their_packing(self):
        packing = Packing.from_lengths([400, 900, 300])
        values = [torch.randn(1, 1600, 2, 4, dtype=torch.float64) for _ in range(3)]
        for causal in (False, True):
            mask = ColumnRanges.documents(packing, causal)
            one = prepare_attention(torch.device("cpu"), torch.float64, mask=mask)(*values)
            two = prepare_attention(
                torch.device("cpu"), torch.float64, packing=packing, is_causal=causal
            )(*(x[0] for x in values))
            agree(one[0], two, torch.float64)


class TestDropout:
    SPEC = {"dropout": 0.25}

    def drawn(self, name, seed=3):
        values = tensors(LENGTHS, LENGTHS, torch.float32)
        torch.manual_seed(seed)
        with torch.no_grad():
            spec = packed_spec("causal", "alibi", **self.SPEC)
            return prepare_attention(values[0].device, torch.float32, spec=spec, backend=name)(
                *values
            )

    @pytest.mark.filterwarnings("ignore")
    def test_one_seed_one_result_on_every_backend(self, monkeypatch):
        from lgatr.attention.backends import flex

        monkeypatch.setattr(flex, "_compiler", lambda device, with_lse: "eager")
        first = self.drawn("native")
        assert torch.equal(first, self.drawn("native"))
        assert not torch.equal(first, self.drawn("native", seed=4))
        torch.testing.assert_close(first, self.drawn("flex"), rtol=1e-5, atol=1e-5)

    def test_mean_and_rate(self):
        """The mean over many draws is attention without dropout; a quarter is dropped."""
        n = 40
        q, k = (torch.randn(n, 1, 4, dtype=torch.float64) for _ in range(2))
        v = torch.eye(n, dtype=torch.float64).unsqueeze(1)
        exact = torch.softmax(q[:, 0] @ k[:, 0].T / 2, -1)
        attend = prepare_attention(
            q.device, q.dtype, packing=Packing.from_lengths([n]), dropout_p=0.25, scale=0.5
        )
        pad = torch.nn.functional.pad
        torch.manual_seed(0)
        q, k = (pad(x, (0, n - 4)) for x in (q, k))
        draws = torch.stack([attend(q, k, v)[:, 0] for _ in range(400)])
        rate = (draws == 0).double().mean()
        assert abs(rate - 0.25) < 4 * (0.25 * 0.75 / draws.numel()) ** 0.5
        spread = exact * (0.25 / 0.75 / 400) ** 0.5
        assert (((draws.mean(0) - exact) / spread).abs() < 6).all()
        # Neighbouring weights are dropped independently.
        kept = (draws != 0).double() - 0.75
        for shifted in (kept[:, :, 1:] * kept[:, :, :-1], kept[:, 1:] * kept[:, :-1]):
            assert abs(shifted.mean()) < 4 * 0.25 * 0.75 / shifted.numel() ** 0.5

    def test_gradients(self):
        values = tensors(LENGTHS, LENGTHS, torch.float64)
        attend = prepare_attention(
            torch.device("cpu"), torch.float64, spec=packed_spec("causal", "softcap", **self.SPEC)
        )

        def function(*x):
            torch.manual_seed(1)
            return attend(*x)

        values = [x.requires_grad_() for x in values]
        assert torch.autograd.gradcheck(function, values, fast_mode=True)


class TestParts:
    def test_parts_merge_to_the_whole(self):
        q, k, v = tensors(LENGTHS, KEYS, torch.float64)
        packing, even = Packing.from_lengths(LENGTHS), Packing.from_lengths(KEYS)
        masks = [MaskMod(lambda b, h, q, k, i=i: k % 3 == i) for i in range(3)]
        parts = [
            partial_attention(q, k, v, packing=packing, kv_packing=even, mask=mask)
            for mask in masks
        ]
        out, lse = merge_attentions(*zip(*parts, strict=True))
        theirs, their_lse = reference.attention(
            q, k, v, *reference.tables("none", "none", LENGTHS, KEYS)
        )
        agree(out, theirs, torch.float64)
        agree(lse, their_lse, torch.float64)

    def test_gradients_flow_through_the_weights(self):
        values = [x.requires_grad_() for x in tensors(LENGTHS, LENGTHS, torch.float64)]
        packing = Packing.from_lengths(LENGTHS)

        def merged(q, k, v):
            parts = [
                partial_attention(q, k, v, packing=packing, mask=mask)
                for mask in (Causal(), ~Causal())
            ]
            return merge_attentions(*zip(*parts, strict=True))

        assert torch.autograd.gradcheck(merged, values, fast_mode=True)

    def test_nothing_to_merge(self):
        with pytest.raises(ValueError, match="cannot be merged"):
            merge_attentions([], [])


def test_forward_mode_and_vmap_under_a_mask():
    q, k, v = tensors(LENGTHS, LENGTHS, torch.float64)
    attend = prepare_attention(q.device, q.dtype, spec=packed_spec("longformer", "alibi_softcap"))
    tangent = torch.randn_like(q)
    _, forward = torch.func.jvp(lambda x: attend(x, k, v), (q,), (tangent,))
    step = 1e-6
    numeric = (attend(q + step * tangent, k, v) - attend(q - step * tangent, k, v)) / (2 * step)
    torch.testing.assert_close(forward, numeric, rtol=1e-6, atol=1e-8)
    both = torch.stack([q, 2 * q])
    mapped = torch.func.vmap(lambda x: attend(x, k, v))(both)
    torch.testing.assert_close(mapped, torch.stack([attend(x, k, v) for x in both]))
