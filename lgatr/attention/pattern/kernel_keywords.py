"""Translate keywords of torch, xFormers and flash-attention to this library's.

The reference library hands its keywords on to the kernels of torch, xFormers and flash-attention,
so programs written for it use their names. What has the same meaning here is translated; what has
none is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from lgatr.attention.pattern.masks import Causal, Mask, SlidingWindow
from lgatr.attention.pattern.number_checks import whole_number
from lgatr.attention.pattern.scores import ALiBi, ScoreMod, SoftCap

RENAMED = {
    "cu_seq_q": "cu_seqlens_q",
    "cu_seq_k": "cu_seqlens_k",
    "max_q": "max_seqlen_q",
    "max_k": "max_seqlen_k",
    "p": "dropout_p",
    "softmax_scale": "scale",
    "dtype": "compute_dtype",
}
TRANSLATED = ("causal", "window_size", "softcap", "alibi_slopes", "enable_gqa")
_OUTPUT_ALONE = "attention in a network gives its output alone; see partial_attention"
REFUSED = {
    "op": 'backend="xformers" chooses the kernel itself',
    "output_dtype": "the output has the format of the queries; see memory_efficient_attention",
    "kernel_options": 'backend="flex" chooses them itself',
    "return_lse": _OUTPUT_ALONE,
    "return_aux": _OUTPUT_ALONE,
    "return_attn_probs": _OUTPUT_ALONE,
    "deterministic": "no backend has this switch here",
    "seqused_k": "keys with gaps are kv_packing=PaddedKeys(...)",
    "block_table": "keys in pages are kv_packing=PagedKeys(...)",
    "num_splits": "the backend chooses it itself",
}
"""What to do instead. None, False and an empty mapping ask for nothing and are accepted."""


def translate(others: Mapping[str, Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Translate keywords of other libraries.

    Parameters
    ----------
    others
        Keywords that are not this library's own.
    keywords
        This library's own.

    Returns
    -------
    Values by this library's names; masks and scores under the name that they were given by.

    Raises
    ------
    TypeError
        If nobody knows a keyword, it has no meaning here, or it is given under both its names.
    """
    if not others:
        return {}
    known = {*RENAMED, *TRANSLATED, *REFUSED}
    unknown = sorted(others.keys() - known)
    if unknown:
        raise TypeError(
            f"attention takes {', '.join(keywords)}; names of other libraries are "
            f"{', '.join((*RENAMED, *TRANSLATED))}; not {', '.join(unknown)}"
        )
    asked = {name: value for name, value in others.items() if value is not None}
    for name, advice in REFUSED.items():
        value = asked.get(name)
        if not (value is None or value is False or (isinstance(value, Mapping) and not value)):
            raise TypeError(f"attention does not take {name}={value!r}: {advice}; leave it out")
    result: dict[str, Any] = {}
    for old, new in RENAMED.items():
        if old not in asked:
            continue
        if keywords.get(new) is not None and not (new == "dropout_p" and keywords[new] == 0.0):
            raise TypeError(f"{old} is another library's name of {new}; give one of them")
        result[new] = asked[old]
    gqa = asked.get("enable_gqa", False)
    if not isinstance(gqa, bool):
        raise TypeError(
            f"enable_gqa is True or False, not {gqa!r}; fewer heads of keys than of "
            "queries are always allowed"
        )
    return result | _mask(asked) | _score(asked)


@contextmanager
def original_names_in_errors(others: Iterable[str]) -> Iterator[None]:
    """Add to errors which of the user's keywords a name of this library stands for."""
    try:
        yield
    except (TypeError, ValueError) as error:
        message = str(error)
        meant = [f"{old} is {RENAMED[old]} here" for old in others if old in RENAMED]
        if not meant or any(old in message for old in others if len(old) > 1):
            raise
        raise type(error)(f"{message} ({', '.join(meant)})") from error


def _mask(asked: Mapping[str, Any]) -> dict[str, Mask]:
    """Causality and windows, both of which the kernels count from the last query and key."""
    causal = asked.get("causal", False)
    if not isinstance(causal, bool):
        raise TypeError(f"causal is True or False, not {causal!r}")
    name, (left, right) = "causal", (None, None)
    if "window_size" in asked:
        left, right = _window(asked["window_size"])
        name = "window_size"
    if causal:
        right = 0
    if left is None and right is None:
        return {}
    if left is None and right == 0:
        return {name: Causal(bottom_right=True)}
    return {name: SlidingWindow(left, right, bottom_right=True)}


def _window(given: Any) -> list[int | None]:
    if not (isinstance(given, (tuple, list)) and len(given) == 2):
        raise TypeError(
            f"window_size is (left, right), -1 for no limit, as for flash-attention; not {given!r}"
        )
    sides = [whole_number(side, "window_size", -1) for side in given]
    return [None if side == -1 else side for side in sides]


def _score(asked: Mapping[str, Any]) -> dict[str, ScoreMod]:
    """Soft-capped scores, to which flash-attention then adds ALiBi."""
    parts: dict[str, ScoreMod] = {}
    cap, slopes = asked.get("softcap", 0.0), asked.get("alibi_slopes")
    if isinstance(cap, bool):
        raise TypeError(f"softcap is the cap of scores, 0.0 for none, not {cap}")
    if not isinstance(cap, (int, float)) or cap:
        parts["softcap"] = SoftCap(cap)
    if slopes is not None:
        if not (isinstance(slopes, Tensor) and slopes.dim() == 1):
            raise TypeError(
                "alibi_slopes is a tensor (heads,) here; slopes of each event are a score_mod"
            )
        parts["alibi_slopes"] = ALiBi(slopes)
    if len(parts) == 2:
        return {"softcap": parts["softcap"] >> parts["alibi_slopes"]}
    return parts
