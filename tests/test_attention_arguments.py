"""No keyword of attention is ignored: alone and in pairs, each is computed or refused by name."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lgatr.attention import (
    AttentionSpec,
    Causal,
    PagedCache,
    SlidingWindow,
    SoftCap,
    partial_attention,
    prepare_attention,
)
from lgatr.attention.backends.dropout import draw_seed, drop_threshold, keep_mask
from lgatr.attention.pattern import kernel_keywords
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.positions import block_positions

# As many tokens in each event, so that one reference serves packed and dense batches.
EVENTS, ITEMS, HEADS, WIDTH = 2, 4, 2, 6
TOKENS = EVENTS * ITEMS
LENGTHS = [ITEMS] * EVENTS
POSITION = torch.arange(ITEMS)
CAUSAL = POSITION[:, None] >= POSITION
WINDOW = (POSITION[:, None] - POSITION).abs() <= 1
TABLE = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 0, 1]]).bool()
BIAS = torch.linspace(-1, 1, ITEMS * ITEMS, dtype=torch.float64).view(ITEMS, ITEMS)
BIAS[2] = -math.inf
DISTANCE = (POSITION[:, None] - POSITION).abs()
SLOPES = torch.tensor([0.5, 0.25], dtype=torch.float64)
DEVICE = torch.device("cpu")


def packing():
    return Packing.from_lengths(LENGTHS)


def block_mask():
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(lambda b, h, q, k: q >= k, None, None, ITEMS, ITEMS, device="cpu")


def score_mod(score, b, h, q, k):
    return torch.where(q == 3, -math.inf, score * (1.0 + h) + 0.3 * (q - 2 * k))


def their_score_mod(scores):
    h, q, k = torch.meshgrid(torch.arange(HEADS), POSITION, POSITION, indexing="ij")
    return torch.where(q == 3, -math.inf, scores * (1.0 + h) + 0.3 * (q - 2 * k))


def softcap(scores):
    return 1.5 * torch.tanh(scores / 1.5)


# Each keyword with values that it may have, and what they do to the reference. Values that are
# made for a call are functions.
KEYWORDS = {
    "spec": [(lambda: AttentionSpec(packing=packing(), mask=Causal()), {"allowed": CAUSAL})],
    "packing": [(packing, {})],
    "kv_packing": [(packing, {})],
    "mask": [(SlidingWindow(1), {"allowed": WINDOW}), (TABLE, {"allowed": TABLE})],
    "score": [(SoftCap(1.5), {"change": softcap})],
    "dropout_p": [(0.4, {"dropout": 0.4})],
    "scale": [(0.7, {"scale": 0.7}), (0.0, {"scale": 0.0}), (-1, {"scale": -1.0})],
    "backend": [("native", {})],
    "strict": [(True, {})],
    "compute_dtype": [("bfloat16", {"tolerance": 0.1}), (torch.float32, {"tolerance": 1e-4})],
    "head_width": [(WIDTH, {}), (WIDTH + 1, None)],
    "attn_mask": [(TABLE, {"allowed": TABLE}), (BIAS, {"bias": BIAS})],
    "attn_bias": [(BIAS, {"bias": BIAS})],
    "is_causal": [(True, {"allowed": CAUSAL})],
    "block_mask": [(block_mask, {"allowed": CAUSAL})],
    "score_mod": [(lambda: score_mod, {"change": their_score_mod})],
    "cu_seqlens_q": [(lambda: packing().ptr, {})],
    "cu_seqlens_k": [(lambda: packing().ptr, {})],
    "max_seqlen_q": [(ITEMS, {}), (ITEMS - 2, None)],
    "max_seqlen_k": [(ITEMS + 1, {}), (ITEMS - 2, None)],
    # Of kernels, as the reference library hands them on. Events have as many keys as queries.
    "cu_seq_q": [(lambda: packing().ptr, {})],
    "cu_seq_k": [(lambda: packing().ptr, {})],
    "max_q": [(ITEMS, {}), (ITEMS - 2, None)],
    "max_k": [(ITEMS + 1, {}), (ITEMS - 2, None)],
    "p": [(0.4, {"dropout": 0.4})],
    "softmax_scale": [(0.7, {"scale": 0.7})],
    "dtype": [(torch.float32, {"tolerance": 1e-4})],
    "causal": [(True, {"allowed": CAUSAL}), (False, {})],
    "window_size": [
        ((1, 1), {"allowed": WINDOW}),
        ((-1, 0), {"allowed": CAUSAL}),
        ([1, -1], {"allowed": POSITION >= POSITION[:, None] - 1}),
        ((-1, -1), {}),
    ],
    "softcap": [(1.5, {"change": softcap}), (0.0, {})],
    "alibi_slopes": [(SLOPES, {"bias": -SLOPES.view(-1, 1, 1) * DISTANCE})],
    "enable_gqa": [(True, {}), (False, {})],
}
VALUES = [(name, *value) for name, values in KEYWORDS.items() for value in values]
OFFSETS = {"cu_seqlens_q", "cu_seqlens_k", "cu_seq_q", "cu_seq_k"}
THEIRS = {*kernel_keywords.RENAMED, *kernel_keywords.TRANSLATED}
PACKED = {"spec", "packing", "kv_packing", *OFFSETS}


def test_every_keyword_is_here():
    import inspect

    known = set(inspect.signature(prepare_attention).parameters)
    others = {*kernel_keywords.RENAMED, *kernel_keywords.TRANSLATED}
    assert known | others == {*KEYWORDS, "device", "cache", "others"}


def definition(q, k, v, effects, causal=False):
    """Outputs from the definition, in float64; ``q`` is ``(T, H, D)``."""
    q, k, v = (x.double().unflatten(0, (EVENTS, ITEMS)) for x in (q, k, v))
    scale = WIDTH**-0.5
    allowed = CAUSAL if causal else torch.ones_like(CAUSAL)
    for effect in effects:
        scale = effect.get("scale", scale)
        allowed = allowed & effect.get("allowed", True)
    scores = torch.einsum("eqhd,ekhd->ehqk", q, k) * scale
    for effect in effects:
        scores = effect.get("change", lambda s: s)(scores)
    scores = scores + sum(effect.get("bias", 0.0) for effect in effects)
    live = allowed & (scores > -math.inf)
    exponentials = torch.where(live, torch.exp(torch.where(live, scores, 0.0)), 0.0)
    weights = exponentials / exponentials.sum(-1, keepdim=True).clamp(min=1e-300)
    for effect in effects:
        if "dropout" in effect:
            at = block_positions(
                range(EVENTS), HEADS, range(ITEMS), range(ITEMS), (ITEMS, ITEMS), (0, 0)
            )
            torch.manual_seed(7)
            p = effect["dropout"]
            weights = weights * keep_mask(draw_seed(), at, drop_threshold(p)) / (1 - p)
    return torch.einsum("ehqk,ekhd->eqhd", weights, v).flatten(0, 1)


def tensors():
    generator = torch.Generator().manual_seed(1)
    shape = (TOKENS, HEADS, WIDTH)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]


def whole(values, options):
    """All tokens at once, packed or dense as the keywords say."""
    torch.manual_seed(7)
    packed = bool(PACKED & options.keys())
    values = values if packed else [x.unflatten(0, (EVENTS, ITEMS)) for x in values]
    out = prepare_attention(DEVICE, torch.float64, **options)(*values)
    return out if packed else out.flatten(0, 1)


def in_two_steps(values, options):
    """One and three tokens of the events, then the rest, with a cache."""
    cache = PagedCache(6, 2)
    sequences = [cache.new(), cache.new()]
    rows = [torch.tensor([0, 4, 5, 6]), torch.tensor([1, 2, 3, 7])]
    out = torch.empty(TOKENS, HEADS, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        for place, lengths in zip(rows, ([1, 3], [3, 1]), strict=True):
            step = dict(options, packing=Packing.from_lengths(lengths), cache=(cache, sequences))
            attend = prepare_attention(DEVICE, torch.float64, **step)
            out[place] = attend(*(x[place] for x in values))
    return out


@pytest.mark.parametrize("base", ["bare", "packed", "cache"])
@pytest.mark.parametrize("first", KEYWORDS)
def test_each_pair_is_computed_or_refused(first, base):
    computed = 0
    for name, value, effect in VALUES:
        for mine, my_effect in KEYWORDS[first]:
            pair = {name: (value, effect), first: (mine, my_effect)}
            if name == first and mine is not value:
                continue
            if name != first and base != "bare" and {name, first} & THEIRS:
                continue  # they mean keywords that are tried in these pairs
            computed += compare(pair, base)
    # Those that a base does not take at all are refused every time.
    never = {"cache": {"spec", "kv_packing", "dropout_p", "attn_mask", "attn_bias", "is_causal",
                       "block_mask", "p", "alibi_slopes", *OFFSETS},
             "packed": {"spec", "attn_mask", "attn_bias", "block_mask", *OFFSETS},
             "bare": set()}[base]  # fmt: skip
    assert (computed == 0) == (first in never)


def compare(pair, base):
    """Whether the pair was computed, as the definition is."""
    options = {
        name: value() if callable(value) and not isinstance(value, SoftCap) else value
        for name, (value, _) in pair.items()
    }
    effects = [effect for _, effect in pair.values()]
    if base == "packed":
        options.setdefault("packing", packing())
    values = [x.requires_grad_(base != "cache") for x in tensors()]
    try:
        ours = (in_two_steps if base == "cache" else whole)(values, options)
    except (ValueError, TypeError) as error:
        message = str(error)
        assert any(name in message for name in pair), f"{sorted(pair)}: {message}"
        assert "\n" not in message
        return False
    assert None not in effects, f"{sorted(pair)} is accepted"
    theirs = definition(*values, effects, base == "cache")
    limit = max(effect.get("tolerance", 1e-10) for effect in effects)
    torch.testing.assert_close(ours, theirs, rtol=limit, atol=limit, msg=lambda m: f"{pair}: {m}")
    if base != "cache":
        probe = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
        gradients = [torch.autograd.grad((out * probe).sum(), values) for out in (ours, theirs)]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=limit, atol=limit, msg=lambda m: f"{pair}: {m}")
    return True


def test_every_effect_shows():
    plain = definition(*tensors(), [])
    for name, _, effect in VALUES:
        if effect and "tolerance" not in effect:
            assert not torch.allclose(definition(*tensors(), [effect]), plain), name


BAD = {
    "spec": ["causal", Causal()],
    "packing": [LENGTHS, torch.tensor([0, 4, 8]), 8],
    "kv_packing": [LENGTHS, Causal()],
    "mask": ["causal", lambda b, h, q, k: q >= k, TABLE.long(), SoftCap(1.0)],
    "score": [score_mod, Causal(), 2.0],
    "dropout_p": [1.0, 1.5, -0.1, math.nan, "0.1", True, torch.tensor(0.1)],
    "scale": [math.nan, math.inf, "0.5", True, torch.tensor(0.5), torch.tensor(0.0)],
    "backend": ["no such backend", 3],
    "strict": [1, "yes"],
    "compute_dtype": ["float12", torch.int32, 16, torch.complex64],
    "head_width": [0, -6, 6.0, True, "6"],
    "attn_mask": [Causal(), 3, TABLE.long()],
    "attn_bias": ["causal", 3, TABLE.long()],
    "is_causal": [1, "True", 0],
    "block_mask": [TABLE, lambda b, h, q, k: q >= k, 5],
    "score_mod": [SoftCap(1.0), 3],
    "cu_seqlens_q": [[0, 4, 8]],
    "cu_seqlens_k": [[0, 4, 8]],
    "max_seqlen_q": [0, -1, 4.0, True],
    "max_seqlen_k": [0, -1, 4.0, True],
    "cu_seq_q": [[0, 4, 8]],
    "cu_seq_k": [[0, 4, 8]],
    "max_q": [0, 4.0],
    "max_k": [-1, True],
    "p": [1.0, "0.1", True],
    "softmax_scale": [math.nan, True],
    "dtype": ["float12", torch.int32],
    "causal": [1, "yes"],
    "window_size": [3, (1,), (1, 2, 3), (-2, 0), (1.0, 2.0), "12"],
    "softcap": [-1.0, True, "1"],
    "alibi_slopes": [[0.5, 0.25], torch.ones(2, 2)],
    "enable_gqa": [1, "yes"],
    "cache": [PagedCache(4), (PagedCache(4),), (3, [1, 2]), (PagedCache(4), [1, 2])],
}
PARTNERS = {"cu_seqlens_q": "cu_seqlens_k", "cu_seq_q": "cu_seq_k"}
CASES = [(name, value) for name, values in BAD.items() for value in values]


@pytest.mark.parametrize(
    ("name", "value"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)]
)
def test_other_kinds_are_refused_by_name(name, value):
    partner = dict(PARTNERS, **{b: a for a, b in PARTNERS.items()}).get(name)
    options = {name: value, **({partner: packing().ptr} if partner else {})}
    if name in ("cache", "kv_packing", "max_seqlen_q", "max_seqlen_k", "max_q", "max_k"):
        options["packing"] = packing()
    words = {
        "softcap": "cap",
        "backend": "attention|backend",
        "mask": "mask",
        "attn_bias": "attn_bias|bias",
    }
    with pytest.raises((ValueError, TypeError), match=words.get(name, name)) as caught:
        prepare_attention(DEVICE, torch.float64, **options)
    assert "\n" not in str(caught.value)


def test_every_bad_value_is_here():
    assert set(BAD) == {*KEYWORDS, "cache"}


SHAPES = {
    "format": lambda q, k, v: (q, k.float(), v),
    "whole numbers": lambda q, k, v: (q.long(), k.long(), v.long()),
    "device": lambda q, k, v: (q, k.to("meta"), v.to("meta")),
    "width": lambda q, k, v: (q, k[..., :4], v),
    "no width": lambda q, k, v: (q[..., :0], k[..., :0], v),
    "values": lambda q, k, v: (q, k, v[1:]),
    "heads of values": lambda q, k, v: (q, k, v[:, :1]),
    "rank": lambda q, k, v: (q[None], k[None], v[None]),
    "flat": lambda q, k, v: (q[:, 0], k[:, 0], v[:, 0]),
    "heads": lambda q, k, v: (q[:, [0, 1, 0]], k, v),
    "no heads": lambda q, k, v: (q[:, :0], k, v),
    "tokens": lambda q, k, v: (q[1:], k[1:], v[1:]),
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("partial", [False, True], ids=["whole", "partial"])
def test_tensors_that_do_not_fit(kind, partial):
    values = SHAPES[kind](*tensors())
    with pytest.raises(ValueError) as caught:
        if partial:
            partial_attention(*values, packing=packing())
        else:
            prepare_attention(DEVICE, torch.float64, packing=packing())(*values)
    assert "\n" not in str(caught.value)


def test_dense_tensors_that_do_not_fit():
    q, k, v = (x.unflatten(0, (EVENTS, ITEMS)) for x in tensors())
    cases = [
        ({}, (q, torch.cat([k, k[:1]]), torch.cat([v, v[:1]]))),
        ({"attn_mask": TABLE[:, :3]}, (q, k, v)),
        ({"attn_mask": torch.ones(3, 1, ITEMS, ITEMS).bool()}, (q, k, v)),
        ({"attn_mask": TABLE.repeat(2, 2), "score": SoftCap(1.0)}, (q, k, v)),
        ({"attn_bias": BIAS.repeat(1, 2)}, (q, k, v)),
        ({"block_mask": block_mask()}, (q[:, :3], k[:, :3], v[:, :3])),
        ({"block_mask": block_mask()}, (q, k[:, :3], v[:, :3])),
    ]
    for options, values in cases:
        attend = prepare_attention(DEVICE, torch.float64, **options)
        with pytest.raises(ValueError, match="queries"):
            attend(*values)


def test_scores_for_other_numbers_of_heads():
    from lgatr.attention import ALiBi, PairwiseBias, RelativePosition

    scores = [
        ALiBi.geometric(HEADS + 1),
        RelativePosition(torch.zeros(1, 3)),
        PairwiseBias(torch.ones(TOKENS, 4), torch.zeros(HEADS + 2, 4)) >> SoftCap(2.0),
    ]
    for score in scores:
        attend = prepare_attention(DEVICE, torch.float64, packing=packing(), score=score)
        with pytest.raises(ValueError, match=f"heads, but there are {HEADS}$"):
            attend(*tensors())


def test_strict_while_tracing():
    def attend(q, k, v):
        options = {"packing": packing(), "backend": "xformers", "strict": True}
        return prepare_attention(DEVICE, torch.float64, **options)(q, k, v)

    torch._dynamo.reset()
    with pytest.raises(Exception, match="only native runs"):
        torch.compile(attend, backend="eager", fullgraph=True)(*tensors())


def test_refused_steps_leave_the_cache_as_it_was():
    cache = PagedCache(6, 2)
    sequences = [cache.new(), cache.new()]
    options = {"packing": packing(), "cache": (cache, sequences)}
    for bad in ({"max_seqlen_k": 3}, {"backend": "no such backend"}):
        with pytest.raises(ValueError):
            prepare_attention(DEVICE, torch.float64, **options, **bad)
        assert cache.free_pages == 6
        assert [cache.length(s) for s in sequences] == [0, 0]
    with torch.no_grad():
        prepare_attention(DEVICE, torch.float64, **options)(*tensors())
    assert cache.free_pages == 2


def test_a_cache_holds_one_shape_and_format():
    cache = PagedCache(10, 2)
    options = {"packing": packing(), "cache": (cache, [cache.new(), cache.new()])}
    with torch.no_grad():
        prepare_attention(DEVICE, torch.float64, **options)(*tensors())
        options["packing"] = Packing.from_lengths([1, 1])
        for q, k, v in (
            [x[:2].float() for x in tensors()],
            [x[:2, :1] for x in tensors()],
            [x[:1] for x in tensors()],
        ):
            attend = prepare_attention(DEVICE, q.dtype, **options)
            with pytest.raises(ValueError, match="the cache holds|describes 2 new tokens"):
                attend(q, k, v)


@pytest.mark.parametrize("one", list(itertools.islice(KEYWORDS, 4)))
def test_unknown_keywords(one):
    with pytest.raises(TypeError, match=f"not {one}s"):
        prepare_attention(DEVICE, torch.float64, **{f"{one}s": 1})
