"""Keywords of attention with values that make no sense are refused by name."""

from __future__ import annotations

import itertools
import math
from importlib.util import find_spec

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
from lgatr.attention.pattern.packing import Packing
from support.attention_keywords import (
    BIAS,
    DEVICE,
    EVENTS,
    HEADS,
    ITEMS,
    KEYWORDS,
    LENGTHS,
    TABLE,
    TOKENS,
    block_mask,
    packing,
    score_mod,
    tensors,
)

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


def test_the_reason_is_not_the_device_where_another_one_is_lasting():
    """Advice that sends users to a GPU, where it fails again."""
    if find_spec("xformers") is None:
        pytest.skip("xFormers is not installed")
    spec = AttentionSpec(packing=Packing.from_lengths([1, 4]), mask=SlidingWindow(3))
    with pytest.raises(ValueError, match="packed windows that look ahead"):
        prepare_attention(torch.device("cpu"), torch.float32, spec=spec, backend="xformers")
