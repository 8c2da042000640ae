"""Whatever is given to attention ends in a result, or in one short sentence."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch

from lgatr.attention import (
    ALiBi,
    AttentionSpec,
    BoundedPacking,
    Causal,
    ColumnRanges,
    DenseBias,
    DenseMask,
    GappyKeys,
    GlobalTokens,
    Neighbourhood,
    Packing,
    PaddedKeys,
    PagedCache,
    PagedKeys,
    PairwiseBias,
    PrefixLM,
    RelativePosition,
    ScoreModFunction,
    ShiftedWindows,
    SlidingWindow,
    SoftCap,
    merge_attentions,
    partial_attention,
    prepare_attention,
)
from lgatr.attention.pattern.scores.base import Chain
from support.odd_values import CPU, LENGTHS, TOKENS, Q, attend

I32 = torch.int32
LSE = Q[..., 0]
PTR = torch.tensor([0, 3, 5], dtype=I32)
PAGES = torch.tensor([[0], [1]], dtype=I32)


def strided_nested():
    with warnings.catch_warnings(action="ignore"):  # torch calls them a prototype
        return torch.nested.nested_tensor([torch.ones(2, 2, 4), torch.ones(3, 2, 4)])


ODD = {
    "None": None,
    "True": True,
    "zero": 0,
    "one": 1,
    "two": 2,
    "three": 3,
    "minus one": -1,
    "half": 0.5,
    "nan": float("nan"),
    "infinity": float("inf"),
    "2^31": 2**31,
    "2^63 - 1": 2**63 - 1,
    "huge": 10**30 + 1,
    "no float": 10**400,
    "complex": 1j,
    "fraction": Fraction(1, 3),
    "text": "foo",
    "lines": "a\nb",
    "bytes": b"12",
    "object": object(),
    "class": int,
    "list": [1, 2],
    "empty list": [],
    "floats": [0.5, 0.25],
    "nested": [[1.0], [2.0]],
    "Nones": [None],
    "huge list": [10**30, 1],
    "dictionary": {"a": 1},
    "numpy int": np.int64(2),
    "numpy float": np.float32(3),
    "numpy bool": np.bool_(True),
    "numpy": np.ones((TOKENS, 2, 4), dtype=np.float32),
    "numpy strings": np.array(["a"]),
    "0-dim": torch.tensor(2),
    "0-dim bool": torch.tensor(True),
    "0-dim float": torch.tensor(2.0),
    "0-dim meta": torch.tensor(2, device="meta"),
    "tensor": torch.ones(2),
    "matrix": torch.ones(2, 3),
    "fits": Q,
    "whole": torch.ones(TOKENS, 2, 4).long(),
    "row": torch.ones(TOKENS).long(),
    "unsigned": torch.ones(TOKENS, dtype=torch.uint64),
    "pages": torch.full((2, 1), 2**62),
    "marks": torch.ones(TOKENS).bool(),
    "complex tensor": torch.ones(2, dtype=torch.complex64),
    "complex matrix": torch.ones(2, 4, dtype=torch.complex64),
    "bool matrix": torch.ones(2, 4).bool(),
    "float8": torch.ones(2).to(torch.float8_e5m2),
    "empty": torch.ones(0),
    "empty matrix": torch.ones(2, 0),
    "meta": torch.ones(2, device="meta"),
    "meta whole": torch.ones(TOKENS, device="meta", dtype=torch.int64),
    "meta fits": torch.ones(TOKENS, 2, 4, device="meta"),
    "meta bool": torch.ones(3, 3, device="meta", dtype=torch.bool),
    "sparse": torch.eye(2).to_sparse(),
    "sparse whole": torch.eye(2).long().to_sparse(),
    "sparse bool": torch.eye(3).bool().to_sparse(),
    "nested tensor": strided_nested(),
    "jagged": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "function": lambda *a: a[0],
    "mask": Causal(),
    "score": SoftCap(2.0),
    "device": CPU,
    "no device": torch.device("cuda", 99),
    "format": torch.float32,
    "packing": Packing.from_lengths(LENGTHS),
}  # fmt: skip


def stored(storage):
    k = Q[torch.zeros(max(storage.min_places, 1)).long()]
    return attend(k=k, v=k, kv_packing=storage)


def cache(*calls):
    """A cache of 4 pages after a sequence of 5 tokens and what ``calls`` do to it."""
    pages = PagedCache(4, 4)
    number = pages.new()
    pages.extend([number], [5])
    return [call(pages, number) for call in calls]


# Each argument of each constructor; the result is used where that is possible.
PLACES = {
    "SlidingWindow": lambda x: attend(mask=SlidingWindow(x)),
    "SlidingWindow right": lambda x: attend(mask=SlidingWindow(1, x)),
    "Causal": lambda x: attend(mask=Causal(x)),
    "PrefixLM": lambda x: attend(mask=PrefixLM(x)),
    "GlobalTokens": lambda x: attend(mask=GlobalTokens(x)),
    "GlobalTokens rows": lambda x: attend(mask=GlobalTokens([x, x])),
    "ShiftedWindows": lambda x: attend(mask=ShiftedWindows(x)),
    "ShiftedWindows shift": lambda x: attend(mask=ShiftedWindows(2**31 - 1, x)),
    "Neighbourhood": lambda x: attend(mask=Neighbourhood(x)),
    "ColumnRanges": lambda x: attend(mask=ColumnRanges(x)),
    "DenseMask": lambda x: attend(False, mask=DenseMask(x)),
    "DenseBias": lambda x: attend(False, score=DenseBias(x)),
    "ALiBi": lambda x: attend(score=ALiBi(x)),
    "ALiBi.geometric": lambda x: attend(score=ALiBi.geometric(2, device=x)),
    "RelativePosition": lambda x: attend(score=RelativePosition(x)),
    "PairwiseBias momenta": lambda x: attend(score=PairwiseBias(x, torch.zeros(2, 4))),
    "PairwiseBias weights": lambda x: attend(score=PairwiseBias(torch.ones(TOKENS, 4), x)),
    "PairwiseBias names": lambda x: attend(
        score=PairwiseBias(torch.ones(TOKENS, 4), torch.zeros(2, 1), x)
    ),
    "SoftCap": lambda x: attend(score=SoftCap(x)),
    "ScoreModFunction": lambda x: attend(score=ScoreModFunction(x)),
    "score_mod returns": lambda x: attend(score_mod=lambda s, b, h, q, k: x),
    "Chain": lambda x: attend(score=Chain(x)),
    "Chain part": lambda x: attend(score=Chain((x,))),
    "Packing lengths": lambda x: Packing.from_lengths(x),
    "Packing length": lambda x: Packing.from_lengths([x]),
    "Packing device": lambda x: Packing.from_lengths([1], device=x),
    "Packing offsets": lambda x: Packing.from_ptr(x),
    "Packing batch": lambda x: Packing.from_batch_index(x),
    "Packing mask": lambda x: Packing.from_mask(x),
    "Packing to": lambda x: Packing.from_lengths([1]).to(x),
    "prepend": lambda x: Packing.from_lengths(LENGTHS).prepend(x),
    "BoundedPacking": lambda x: BoundedPacking(x, TOKENS, 3),
    "BoundedPacking tokens": lambda x: BoundedPacking(PTR, x, 3),
    "BoundedPacking longest": lambda x: BoundedPacking(PTR, TOKENS, x),
    "PaddedKeys padding": lambda x: stored(PaddedKeys(x, LENGTHS)),
    "PaddedKeys lengths": lambda x: stored(PaddedKeys(3, x)),
    "GappyKeys starts": lambda x: stored(GappyKeys(x, LENGTHS)),
    "GappyKeys lengths": lambda x: stored(GappyKeys((0, 1), x)),
    "GappyKeys places": lambda x: stored(GappyKeys((0, 3), LENGTHS, x)),
    "PagedKeys tables": lambda x: stored(PagedKeys(x, 4, LENGTHS)),
    "PagedKeys page_size": lambda x: stored(PagedKeys(PAGES, x, LENGTHS)),
    "PagedKeys lengths": lambda x: stored(PagedKeys(PAGES, 4, x)),
    "PagedKeys starts": lambda x: stored(PagedKeys(PAGES, 4, LENGTHS, x)),
    "PagedCache": lambda x: PagedCache(x),
    "PagedCache page_size": lambda x: PagedCache(4, page_size=x),
    "cache.length": lambda x: cache(lambda c, n: c.length(x)),
    "cache.fork": lambda x: cache(lambda c, n: c.fork(x)),
    "cache.free": lambda x: cache(lambda c, n: c.free(x)),
    "cache.keys": lambda x: cache(lambda c, n: c.keys(x)),
    "cache.keys of": lambda x: cache(lambda c, n: c.keys([x])),
    "cache.keys skip": lambda x: cache(lambda c, n: c.keys([n], x)),
    "cache.shared_pages": lambda x: cache(lambda c, n: c.shared_pages(x)),
    "cache.shared_pages of": lambda x: cache(lambda c, n: c.shared_pages([x])),
    "cache.extend": lambda x: cache(lambda c, n: c.extend(x, [1])),
    "cache.extend counts": lambda x: cache(lambda c, n: c.extend([n], x)),
    "cache.extend count": lambda x: cache(lambda c, n: c.extend([n], [x])),
    "cache.shorten": lambda x: cache(lambda c, n: c.shorten(x, [1])),
    "cache.shorten count": lambda x: cache(lambda c, n: c.shorten([n], [x])),
    "cache.write": lambda x: cache(lambda c, n: c.write(x, torch.arange(TOKENS), Q, Q)),
    "cache.write keys": lambda x: cache(lambda c, n: c.write(0, torch.arange(TOKENS), x, Q)),
    "cache.write places": lambda x: cache(lambda c, n: c.write(0, x, Q, Q)),
    "prepare device": lambda x: prepare_attention(x, torch.float32)(Q, Q, Q),
    "prepare dtype": lambda x: prepare_attention(CPU, x)(Q, Q, Q),
    "q": lambda x: attend(q=x),
    "k": lambda x: attend(k=x),
    "v": lambda x: attend(v=x),
    "all": lambda x: attend(q=x, k=x, v=x),
    "all dense": lambda x: attend(False, q=x, k=x, v=x),
    "partial": lambda x: partial_attention(x, Q, Q, packing=Packing.from_lengths(LENGTHS)),
    "merge": lambda x: merge_attentions(x, x),
    "merge outputs": lambda x: merge_attentions([x], [LSE]),
    "merge lses": lambda x: merge_attentions([Q], [x]),
    "merge format": lambda x: merge_attentions([Q], [LSE], output_dtype=x),
    "spec scale": lambda x: attend(False, spec=AttentionSpec(scale=x)),
    "spec dropout": lambda x: attend(False, spec=AttentionSpec(dropout=x)),
    "spec mask": lambda x: attend(False, spec=AttentionSpec(mask=x)),
    **{
        name: lambda x, name=name: attend(False, **{name: x})
        for name in (
            "spec", "packing", "mask", "score", "backend", "strict", "compute_dtype", "head_width",
            "attn_mask", "attn_bias", "is_causal", "block_mask", "score_mod", "dropout_p", "scale",
            "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k", "cache", "kv_packing",
        )
    },
}  # fmt: skip


def fault(call):
    """What is wrong with how a call ends; None for a result or one short sentence."""
    try:
        call()
    except (ValueError, TypeError) as error:
        message = str(error)
        fine = "\n" not in message and 15 < len(message) < 400
        return None if fine else f"{type(error).__name__}: {message[:200]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


@pytest.mark.parametrize("place", PLACES)
def test_a_result_or_one_short_sentence(place):
    faults = {name: fault(lambda x=value: PLACES[place](x)) for name, value in ODD.items()}
    assert not {name: found for name, found in faults.items() if found}


def test_merging_whole_numbers():
    with pytest.raises(ValueError, match="real floating-point"):
        merge_attentions([Q.long(), Q.long()], [LSE, LSE])


def test_softcap_takes_numbers_of_numpy():
    torch.testing.assert_close(
        attend(score=SoftCap(np.float32(3))), attend(score=SoftCap(torch.tensor(3.0)))
    )


def test_large_caches_cost_nothing_before_they_are_used():
    cache = PagedCache(2**27 - 1)
    assert cache.free_pages == 2**27 - 1
    with pytest.raises(ValueError, match="pages is at most"):
        PagedCache(2**27)
