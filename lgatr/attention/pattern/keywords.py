"""The keywords of attention: what each may be, and which go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.pattern import interop
from lgatr.attention.pattern.key_storage import KeyStorage
from lgatr.attention.pattern.masks import Causal, Mask
from lgatr.attention.pattern.masks.block_mask import BlockMaskMod
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.scores import ScoreMod, ScoreModFunction
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.attention.pattern.whole_numbers import whole_number
from lgatr.utils.described import described

_DTYPES = ("float32", "float16", "bfloat16", "float64")
LIMITS = ("max_seqlen_q", "max_seqlen_k")
"""Keywords that say how long an event may be."""
_WITH_CACHE = ("packing", "mask", "score", "score_mod", "scale", "compute_dtype", *LIMITS)

# The classes that a keyword may be of, and how to get one.
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "spec": (AttentionSpec, "an AttentionSpec"),
    "packing": (Packing, "a Packing, such as Packing.from_lengths(lengths)"),
    "kv_packing": ((Packing, KeyStorage), "a Packing, or a KeyStorage such as PagedKeys"),
    "mask": ((Mask, Tensor), "a Mask such as Causal(), or a tensor; functions go into MaskMod"),
    "score": (ScoreMod, "a ScoreMod such as SoftCap(5.0); functions are given as score_mod"),
    "attn_mask": (Tensor, "a tensor; masks such as Causal() are given as mask"),
    "is_causal": (bool, "True or False"),
    "cu_seqlens_q": (Tensor, "a tensor of offsets (events + 1,)"),
    "cu_seqlens_k": (Tensor, "a tensor of offsets (events + 1,)"),
    "backend": (str, "the name of a backend"),
    "strict": (bool, "True or False"),
}
# The fields of an AttentionSpec that a keyword means.
_FIELDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "packing": lambda given: {"packing": given},
    "kv_packing": lambda given: {"kv_packing": given},
    "mask": lambda given: {"mask": given},
    "attn_mask": lambda given: {"mask": given},
    "is_causal": lambda given: {"mask": Causal()},
    "causal": lambda given: {"mask": given},
    "window_size": lambda given: {"mask": given},
    "block_mask": lambda given: {"mask": BlockMaskMod(given)},
    "score": lambda given: {"score": given},
    "score_mod": lambda given: {"score": ScoreModFunction(given)},
    "softcap": lambda given: {"score": given},
    "alibi_slopes": lambda given: {"score": given},
    "dropout_p": lambda given: {"dropout": given},
    "scale": lambda given: {"scale": given},
}
_JOINED = {"mask": "; masks are joined by &", "score": "; modifications are joined by >>"}


def given_keywords(**keywords: Any) -> dict[str, Any]:
    """The keywords that were given, each of them of a kind that it may be.

    Raises
    ------
    TypeError
        If one is of another kind.
    ValueError
        If a number is out of its range.
    """
    given = {name: value for name, value in keywords.items() if value is not None}
    for name, value in given.items():
        if name in _KINDS and not isinstance(value, _KINDS[name][0]):
            raise TypeError(f"{name} is {_KINDS[name][1]}, not {described(value)}")
    for name in ("head_width", *LIMITS):
        if name in given:
            given[name] = whole_number(given[name], name, 1)
    function = given.get("score_mod")
    if function is not None and (isinstance(function, ScoreMod) or not callable(function)):
        raise TypeError(
            "score_mod is a function of (score, b, h, q, k), not "
            f"{described(function)}; objects such as SoftCap(5.0) are given as score"
        )
    if "block_mask" in given and not hasattr(given["block_mask"], "mask_mod"):
        raise TypeError(f"block_mask is a BlockMask, not {described(given['block_mask'])}")
    # What changes nothing is as if it were not given.
    if given.get("is_causal") is False:
        del given["is_causal"]
    dropout = given.get("dropout_p")
    if isinstance(dropout, (int, float)) and not isinstance(dropout, bool) and dropout == 0:
        del given["dropout_p"]
    return given


def compute_format(given: torch.dtype | str | None) -> torch.dtype | None:
    """The format that ``compute_dtype`` names."""
    if given is None:
        return None
    name = given if isinstance(given, str) else str(given).removeprefix("torch.")
    if name not in _DTYPES:
        raise ValueError(f"compute_dtype is one of {', '.join(_DTYPES)}, not {described(given)}")
    found: torch.dtype = getattr(torch, name)
    return found


def pattern_of(given: dict[str, Any]) -> AttentionSpec:
    """The pattern that the keywords describe together.

    Raises
    ------
    ValueError
        If two of them contradict each other.
    """
    described = given.keys() & {*_FIELDS, "attn_bias", "cu_seqlens_q", "cu_seqlens_k"}
    if "spec" in given:
        if described:
            raise ValueError(
                "the attention pattern is described twice: spec is the whole of it; leave out "
                f"{', '.join(sorted(described))}"
            )
        return given["spec"]
    fields: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def add(keyword: str, values: dict[str, Any]) -> None:
        for field, value in values.items():
            if field in fields:
                raise ValueError(
                    f"the attention pattern is described twice: {origins[field]} and {keyword} "
                    f"both give its {field}; give one of them{_JOINED.get(field, '')}"
                )
            fields[field], origins[field] = value, keyword

    for keyword, read in _FIELDS.items():
        if keyword in given:
            add(keyword, read(given[keyword]))
    if "attn_bias" in given:
        add("attn_bias", interop.from_bias(given["attn_bias"], described == {"attn_bias"}))
    offsets = given.get("cu_seqlens_q"), given.get("cu_seqlens_k")
    if offsets != (None, None):
        if "kv_packing" in fields:
            raise ValueError(
                f"{origins['kv_packing']} and cu_seqlens_k both give the events of the keys; give "
                "one of them"
            )
        add("cu_seqlens_q", interop.from_offsets(*offsets))
    if "packing" in fields and isinstance(fields.get("mask"), (Tensor, BlockMaskMod)):
        raise ValueError(
            f"a packed batch ({origins['packing']}) takes no dense mask ({origins['mask']}); its "
            "packing is the mask, which mask=MaskMod(function) narrows"
        )
    return AttentionSpec(**fields)


def check_limits(given: dict[str, Any], spec: AttentionSpec) -> None:
    """Raise ``ValueError`` if an event is longer than ``max_seqlen`` says."""
    for name, packing in zip(LIMITS, (spec.packing, spec.key_packing), strict=True):
        if name not in given:
            continue
        if packing is None:
            raise ValueError(
                f"{name} goes with packed events; give packing, or cu_seqlens_q and cu_seqlens_k"
            )
        if torch.compiler.is_compiling():
            raise ValueError(
                f"{name} is compared with lengths, which an exported program does not know; leave "
                "it out, it is not needed"
            )
        if packing.max_length > given[name]:
            raise ValueError(
                f"{name}={given[name]} is below the {packing.max_length} tokens of the longest "
                "event; leave it out, it is not needed"
            )


def check_cached(given: dict[str, Any]) -> None:
    """Raise ``ValueError`` if there are keywords that a step with a cache does not take."""
    others = sorted(given.keys() - {*_WITH_CACHE, "cache", "head_width", "backend", "strict"})
    if others:
        raise ValueError(
            f"a step with cache takes {', '.join(_WITH_CACHE)}, and is causal; not "
            f"{', '.join(others)}"
        )
    if "packing" not in given:
        raise ValueError("a step with cache needs packing, the events of the new tokens")


def read_keywords(keywords: dict[str, Any]) -> tuple[dict[str, Any], AttentionSpec]:
    """The keywords that were given, and the pattern that they describe together.

    Raises
    ------
    TypeError, ValueError
        If one is of another kind than it may be, or two contradict each other.
    """
    given = given_keywords(**keywords)
    if "cache" in given:
        check_cached(given)
        return given, pattern_of(given)
    pattern = pattern_of(given)
    check_limits(given, pattern)
    return given, pattern
