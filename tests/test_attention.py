"""Every mask and score on every backend, against attention from its definition."""

from __future__ import annotations

import attention_reference as reference
import pytest
import torch
from attention_reference import COLUMNS, HEADS, KEYS, LENGTHS, MOMENTA, TABLE, WIDTH

from lgatr.attention import (
    ALiBi,
    AttentionSpec,
    Causal,
    ColumnRanges,
    GappyKeys,
    GlobalTokens,
    MaskMod,
    Neighbourhood,
    Packing,
    PaddedKeys,
    PagedKeys,
    PairwiseBias,
    PrefixLM,
    RelativePosition,
    ScoreModFunction,
    ShiftedWindows,
    SlidingWindow,
    SoftCap,
    backends,
    merge_attentions,
    partial_attention,
    prepare_attention,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*lru_cache")

MASKS = {
    "none": lambda: None,
    "causal": lambda: Causal(),
    "causal_bottom_right": lambda: Causal(bottom_right=True),
    "window": lambda: SlidingWindow(2, 1),
    "window_bottom_right": lambda: SlidingWindow(2, 1, bottom_right=True),
    "window_causal": lambda: Causal() & SlidingWindow(2, None),
    "window_causal_bottom_right": lambda: SlidingWindow(2, 0, bottom_right=True),
    "prefix_lm": lambda: PrefixLM(torch.tensor(reference.PREFIXES)),
    "longformer": lambda: SlidingWindow(1) | GlobalTokens(1),
    "shifted_windows": lambda: ShiftedWindows(3, 1),
    "neighbourhood": lambda: Neighbourhood(3),
    "column_ranges": lambda: ColumnRanges(*COLUMNS),
    "mask_mod": lambda: MaskMod(lambda b, h, q, k: (q + k + h + b) % 3 != 0),
    "combined": lambda: Causal() & ~SlidingWindow(1) & MaskMod(lambda b, h, q, k: (q + k) % 2 == 0),
}
SLOPES = torch.tensor(reference.SLOPES, dtype=torch.float64)
SCORES = {
    "none": lambda: None,
    "alibi": lambda: ALiBi(SLOPES),
    "relative_position": lambda: RelativePosition(TABLE),
    "softcap": lambda: SoftCap(1.5),
    "pairwise": lambda: PairwiseBias(MOMENTA, reference.PAIR_WEIGHTS),
    "score_mod": lambda: ScoreModFunction(lambda s, b, h, q, k: s + 0.125 * (q - 2 * k + h)),
    "alibi_softcap": lambda: ALiBi(SLOPES) >> SoftCap(1.5),
}
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 3e-2}
DTYPES = list(TOLERANCE)
ON_SELF_ONLY = {"column_ranges", "pairwise"}


def tensors(queries, keys, dtype, heads=HEADS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((sum(queries), HEADS), (sum(keys), heads), (sum(keys), heads))
    return [
        torch.randn(*s, WIDTH, generator=generator, dtype=torch.float64).to(dtype) for s in shapes
    ]


def agree(ours, theirs, dtype):
    torch.testing.assert_close(ours.double(), theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def with_gradients(function, values, probe, more=()):
    values = [x.detach().requires_grad_() for x in values]
    out = function(*values)
    return out.detach(), torch.autograd.grad((out.double() * probe).sum(), [*values, *more])


def usable(name, spec, dtype, device="cpu", training=True):
    problem = backends()[name].why_unusable(spec, torch.device(device), dtype, training)
    if problem is not None:
        pytest.skip(f"attention={name}: {problem}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("mask", MASKS)
def test_native_equals_the_definition(mask, score, cross, dtype):
    compare_with_definition("native", mask, score, cross, dtype)


def compare_with_definition(name, mask, score, cross, dtype, device="cpu"):
    if cross and {mask, score} & ON_SELF_ONLY:
        pytest.skip("made for self-attention")
    keys = KEYS if cross else LENGTHS
    spec = AttentionSpec(
        packing=Packing.from_lengths(LENGTHS),
        kv_packing=Packing.from_lengths(keys) if cross else None,
        mask=MASKS[mask](),
        score=SCORES[score](),
    )
    usable(name, spec, dtype, device)
    values = [x.to(device) for x in tensors(LENGTHS, keys, dtype)]
    probe = torch.randn(sum(LENGTHS), HEADS, WIDTH, dtype=torch.float64).to(device)
    attend = prepare_attention(values[0].device, dtype, spec=spec, backend=name)
    ours = with_gradients(attend, values, probe)
    allowed, bias = (t.to(device) for t in reference.tables(mask, score, LENGTHS, keys))
    change = reference.SCORES[score][1]
    theirs = with_gradients(
        lambda q, k, v: reference.attention(q, k, v, allowed, bias, change)[0],
        [x.double() for x in values],
        probe,
    )
    agree(ours[0], theirs[0], dtype)
    for a, b in zip(ours[1], theirs[1], strict=True):
        agree(a, b, dtype)


def packed_spec(mask="none", score="none", keys=None, **more):
    return AttentionSpec(
        packing=Packing.from_lengths(LENGTHS),
        kv_packing=None if keys is None else keys,
        mask=MASKS[mask](),
        score=SCORES[score](),
        **more,
    )


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


def storages():
    """Keys in a larger storage, and where each live key lies."""
    table = torch.tensor([[7, 2], [0, 9], [4, 9], [1, 5], [8, 3]], dtype=torch.int32)
    pages = [
        [int(p) * 5 + i for p in row for i in range(5)][:n]
        for row, n in zip(table, KEYS, strict=True)
    ]
    starts, late = (3, 12, 20, 25, 40), (4, 0, 7, 1, 2)
    other = torch.tensor([[8, 3], [1, 5], [4, 6], [0, 9], [7, 2]], dtype=torch.int32)
    return {
        "padded": (
            PaddedKeys(11, KEYS),
            [[i * 11 + j for j in range(n)] for i, n in enumerate(KEYS)],
        ),
        "gappy": (
            GappyKeys(starts, KEYS, 55),
            [[s + j for j in range(n)] for s, n in zip(starts, KEYS, strict=True)],
        ),
        "paged": (PagedKeys(table, 5, KEYS), pages),
        "paged_later": (
            PagedKeys(other, 5, KEYS, late),
            [
                [int(row[p // 5]) * 5 + p % 5 for p in range(s, s + n)]
                for row, s, n in zip(other, late, KEYS, strict=True)
            ],
        ),
    }


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

    @pytest.mark.parametrize("mask", MASKS)
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
