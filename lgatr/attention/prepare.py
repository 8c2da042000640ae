"""Keyword arguments of attention: what each may be, and how they become prepared attention.

Legend: B events.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.decoding import decoding
from lgatr.attention.pattern import interop
from lgatr.attention.pattern.kernel_keywords import original_names_in_errors, translate
from lgatr.attention.pattern.key_storage import KeyStorage
from lgatr.attention.pattern.masks import Causal, Mask
from lgatr.attention.pattern.masks.block_mask import BlockMaskMod
from lgatr.attention.pattern.number_checks import whole_number
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.scores import ScoreMod, ScoreModFunction
from lgatr.attention.pattern.spec import MAX_SEQLENS, AttentionSpec
from lgatr.attention.prepared import Attention, plan_attention
from lgatr.attention.registry import may_be_traced
from lgatr.utils.described import described
from lgatr.utils.devices import checked_device
from lgatr.utils.inputs import FLOATS

_CPU = torch.device("cpu")


def prepare_attention(
    device: torch.device,
    dtype: torch.dtype,
    /,
    *,
    spec: AttentionSpec | None = None,
    packing: Packing | None = None,
    kv_packing: Packing | KeyStorage | None = None,
    mask: Mask | Tensor | None = None,
    score: ScoreMod | None = None,
    backend: str | None = None,
    strict: bool = False,
    compute_dtype: torch.dtype | str | None = None,
    head_width: int | None = None,
    attn_mask: Tensor | None = None,
    attn_bias: Any = None,
    is_causal: bool = False,
    block_mask: Any = None,
    score_mod: Any = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    cache: tuple[Any, Any] | None = None,
    **others: Any,
) -> Attention:
    """Build the pattern, choose a backend, and lower the pattern for it.

    Parameters
    ----------
    device, dtype
        Of the queries.
    spec
        A complete pattern; excludes the other descriptions.
    packing
        Events of a packed batch.
    kv_packing
        Events of the keys and values, where they differ (cross-attention), or where they lie.
    mask, score
        Which keys are seen and how scores change; see :mod:`lgatr.attention.pattern.masks` and
        :mod:`lgatr.attention.pattern.scores`.
    backend
        Name of the backend; None and ``"auto"`` choose one.
    strict
        Raise if the backend has no kernel on this device, instead of running natively.
    compute_dtype
        Format to compute attention in, such as ``torch.bfloat16`` or its name; the result has that
        of the queries again. None computes in that.
    head_width
        Width of the heads, if known; ``"auto"`` leaves out backends that end before it. Heads of
        another width are an error.
    attn_mask, is_causal, dropout_p, scale
        As for :func:`torch.nn.functional.scaled_dot_product_attention`.
    attn_bias
        As for xFormers: a tensor added to the scores, or a mask object.
    block_mask, score_mod
        As for FlexAttention: a ``BlockMask`` over dense batches, ``score_mod(s, b, h, q, k)``.
    cu_seqlens_q, cu_seqlens_k
        As for flash-attention: offsets ``(B + 1,)`` of the events of queries and keys.
    max_seqlen_q, max_seqlen_k
        Accepted for compatibility: no event may be longer. Not needed.
    cache
        ``(PagedCache, sequences)`` for a step of a causal decoder, with ``packing`` of the new
        tokens; ``mask``, ``score`` and ``score_mod`` count positions in the whole sequences. See
        :func:`lgatr.attention.decoding.decoding`.
    **others
        Keywords of other libraries; see :mod:`lgatr.attention.pattern.kernel_keywords`.

    Raises
    ------
    TypeError
        If an argument is unknown, or of another kind than it may be.
    ValueError
        If the pattern contradicts itself or no backend can run it. No keyword is ever ignored.
    """
    keywords: dict[str, Any] = dict(
        spec=spec, packing=packing, kv_packing=kv_packing, mask=mask, score=score,
        backend=backend, strict=strict, compute_dtype=compute_dtype, head_width=head_width,
        attn_mask=attn_mask, attn_bias=attn_bias, is_causal=is_causal, block_mask=block_mask,
        score_mod=score_mod, dropout_p=dropout_p, scale=scale, cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k, max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k,
        cache=cache,
    )  # fmt: skip
    if device != _CPU:
        device = checked_device(device)
    if dtype not in FLOATS:
        raise ValueError(f"dtype is a format such as torch.float32, not {described(dtype)}")
    if torch.compiler.is_dynamo_compiling() and (others or not _fits_one_graph(keywords)):
        from lgatr.attention.graph_break import run_eagerly

        prepared: Attention = run_eagerly(_prepared, device, dtype, keywords, others)
        return prepared
    return _prepared(device, dtype, keywords, others)


def _fits_one_graph(keywords: dict[str, Any]) -> bool:
    """Whether a program that torch.compile traces can hold the preparation."""
    given = _checked_keywords(keywords)
    traced = may_be_traced(given.get("backend", "auto"), given.get("strict", False))
    if given.keys() & {"cache", *MAX_SEQLENS} or not traced:
        return False
    return _pattern_of(given).fits_one_graph()


def _prepared(
    device: torch.device, dtype: torch.dtype, keywords: dict[str, Any], others: dict[str, Any]
) -> Attention:
    with original_names_in_errors(others) if others else nullcontext():
        if others:
            keywords = keywords | translate(others, keywords)
        given = _checked_keywords(keywords)
        if "cache" in given:
            _check_cached(given)
        pattern = _pattern_of(given)
        limits = {name: given[name] for name in MAX_SEQLENS if name in given}
        if limits and "cache" not in given:
            pattern.check_max_seqlens(limits)
        options = {name: given[name] for name in _OPTIONS if name in given}
        if "compute_dtype" in options:
            options["compute_dtype"] = _compute_format(options["compute_dtype"])
        if "cache" in given:
            return decoding(given["cache"], pattern, options, device, dtype, limits)
    return plan_attention(pattern, device, dtype, **options)


_OPTIONS = ("backend", "strict", "compute_dtype", "head_width")
_WITH_CACHE = ("packing", "mask", "score", "score_mod", "scale", "compute_dtype", *MAX_SEQLENS)
_DTYPES = ("float32", "float16", "bfloat16", "float64")
# Allowed classes of a keyword, and what to give instead of others.
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
# The field of AttentionSpec that a keyword sets, and how its value is converted.
_FIELDS: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "packing": ("packing", None),
    "kv_packing": ("kv_packing", None),
    "mask": ("mask", None),
    "attn_mask": ("mask", None),
    "is_causal": ("mask", lambda given: Causal()),
    "causal": ("mask", None),
    "window_size": ("mask", None),
    "block_mask": ("mask", BlockMaskMod),
    "score": ("score", None),
    "score_mod": ("score", ScoreModFunction),
    "softcap": ("score", None),
    "alibi_slopes": ("score", None),
    "dropout_p": ("dropout", None),
    "scale": ("scale", None),
}
_JOINED = {"mask": "; masks are joined by &", "score": "; modifications are joined by >>"}


def _checked_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords that were given, each of them of a kind that it may be."""
    given = {name: value for name, value in keywords.items() if value is not None}
    for name, value in given.items():
        if name in _KINDS and not isinstance(value, _KINDS[name][0]):
            raise TypeError(f"{name} is {_KINDS[name][1]}, not {described(value)}")
    for name in ("head_width", *MAX_SEQLENS):
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
    # Defaults of other libraries' functions count as not given.
    if given.get("is_causal") is False:
        del given["is_causal"]
    dropout = given.get("dropout_p")
    if isinstance(dropout, (int, float)) and not isinstance(dropout, bool) and dropout == 0:
        del given["dropout_p"]
    return given


def _check_cached(given: dict[str, Any]) -> None:
    """Raise ``ValueError`` if there are keywords that a step with a cache does not take."""
    others = sorted(given.keys() - {*_WITH_CACHE, "cache", "head_width", "backend", "strict"})
    if others:
        raise ValueError(
            f"a step with cache takes {', '.join(_WITH_CACHE)}, and is causal; not "
            f"{', '.join(others)}"
        )
    if "packing" not in given:
        raise ValueError("a step with cache needs packing, the events of the new tokens")


def _compute_format(given: torch.dtype | str) -> torch.dtype:
    """The format that ``compute_dtype`` names."""
    name = given if isinstance(given, str) else str(given).removeprefix("torch.")
    if name not in _DTYPES:
        raise ValueError(f"compute_dtype is one of {', '.join(_DTYPES)}, not {described(given)}")
    found: torch.dtype = getattr(torch, name)
    return found


def _pattern_of(given: dict[str, Any]) -> AttentionSpec:
    """The pattern that the keywords describe together; ``ValueError`` if they contradict."""
    if "spec" in given:
        twice = given.keys() & {*_FIELDS, "attn_bias", "cu_seqlens_q", "cu_seqlens_k"}
        if twice:
            raise ValueError(
                "the attention pattern is described twice: spec is the whole of it; leave out "
                f"{', '.join(sorted(twice))}"
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

    for keyword, (field, make) in _FIELDS.items():
        if keyword in given:
            value = given[keyword]
            add(keyword, {field: value if make is None else make(value)})
    if "attn_bias" in given:
        alone = not given.keys() & {*_FIELDS, "cu_seqlens_q", "cu_seqlens_k"}
        add("attn_bias", interop.from_bias(given["attn_bias"], alone))
    offsets = given.get("cu_seqlens_q"), given.get("cu_seqlens_k")
    if offsets[0] is not None or offsets[1] is not None:
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
