"""Convert xFormers biases and cu_seqlens to AttentionSpec fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lgatr.attention.pattern.key_storage import GappyKeys, KeyStorage, PaddedKeys, PagedKeys
from lgatr.attention.pattern.masks import Causal, Mask, SlidingWindow
from lgatr.attention.pattern.masks.patterns import SomeEvents
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.scores import DenseBias

SpecFields = dict[str, Any]
"""Keyword arguments of :class:`~lgatr.attention.pattern.spec.AttentionSpec`."""


class _Keys(NamedTuple):
    """Where the keys of each event lie: from a start on, in the storage or in the event's pages."""

    starts: list[int]
    lengths: list[int]
    together: bool = False
    """Whether they lie end to end."""


def _differences(offsets: Sequence[int]) -> list[int]:
    return [b - a for a, b in zip(offsets, offsets[1:], strict=False)]


def _keys(bias: Any) -> _Keys:
    info = bias.k_seqinfo
    paged = hasattr(bias, "block_tables")
    if hasattr(info, "padding"):
        lengths = list(info.seqlen_py)
        return _Keys([0] * len(lengths) if paged else list(info.seqstart_py[:-1]), lengths)
    if hasattr(info, "seqlen_py"):
        # Of pages, xFormers keeps the place after the last key instead of the number of keys.
        ends, starts = list(info.seqlen_py), list(info.seqstart_py[: len(info.seqlen_py)])
        used = [end - start for start, end in zip(starts, ends, strict=True)]
        return _Keys(starts, used if paged else ends)
    return _Keys(list(info.seqstart_py[:-1]), _differences(info.seqstart_py), together=True)


def _events(bias: Any, device: Any) -> SpecFields:
    """The events of a block-diagonal mask, for which each has queries and keys."""
    queries = _differences(bias.q_seqinfo.seqstart_py)
    pattern: SpecFields = {"packing": Packing.from_lengths(queries, device)}
    keys = _keys(bias)
    if not keys.together:
        pattern["kv_packing"] = _storage(bias, keys, range(len(queries)))
    elif keys.lengths != queries:
        pattern["kv_packing"] = Packing.from_lengths(keys.lengths, device)
    return pattern


def _events_with_empty_ones(bias: Any, device: Any) -> SpecFields:
    """Events without queries are left out; those without keys get one that a mask hides."""
    queries, keys = _differences(bias.q_seqinfo.seqstart_py), _keys(bias)
    kept = [i for i, n in enumerate(queries) if n > 0]
    if not kept or not any(keys.lengths[i] for i in kept):
        raise ValueError(f"{type(bias).__name__} has no event with queries and keys")
    alive = torch.tensor([keys.lengths[i] > 0 for i in kept], device=device)
    pattern: SpecFields = {"packing": Packing.from_lengths([queries[i] for i in kept], device)}
    pattern["kv_packing"] = _storage(bias, keys, kept)
    return pattern if bool(alive.all()) else pattern | {"mask": SomeEvents(alive)}


def _storage(bias: Any, keys: _Keys, chosen: Sequence[int]) -> KeyStorage:
    lengths = tuple(max(keys.lengths[i], 1) for i in chosen)
    starts = tuple(keys.starts[i] if keys.lengths[i] else 0 for i in chosen)
    whole = len(chosen) == len(keys.lengths) and min(keys.lengths) > 0
    if hasattr(bias, "block_tables"):
        tables = bias.block_tables[list(chosen)]
        empty = [n for n, i in enumerate(chosen) if not keys.lengths[i]]
        if empty:
            tables = tables.index_fill(0, torch.tensor(empty, device=tables.device), 0)
        return PagedKeys(tables, bias.page_size, lengths, starts if any(starts) else None)
    if whole and hasattr(bias.k_seqinfo, "padding"):
        return PaddedKeys(bias.k_seqinfo.padding, lengths)
    return GappyKeys(starts, lengths)


def _window(bias: Any, bottom_right: bool) -> Mask:
    return SlidingWindow(bias._window_size - 1, 0, bottom_right)


def _both_ways(bias: Any) -> Mask:
    return SlidingWindow(bias.window_left, bias.window_right, bottom_right=True)


# What each class of xformers.ops.fmha.attn_bias means for the scores inside an event.
_MASKS: dict[str, Callable[[Any], Mask | None]] = {
    "BlockDiagonalMask": lambda bias: None,
    "BlockDiagonalCausalMask": lambda bias: Causal(),
    "BlockDiagonalCausalFromBottomRightMask": lambda bias: Causal(bottom_right=True),
    "BlockDiagonalCausalLocalAttentionMask": lambda bias: _window(bias, False),
    "BlockDiagonalCausalLocalAttentionFromBottomRightMask": lambda bias: _window(bias, True),
    "BlockDiagonalPaddedKeysMask": lambda bias: None,
    "BlockDiagonalCausalWithOffsetPaddedKeysMask": lambda bias: Causal(bottom_right=True),
    "BlockDiagonalLocalAttentionPaddedKeysMask": _both_ways,
    "BlockDiagonalCausalLocalAttentionPaddedKeysMask": lambda bias: _window(bias, True),
    "BlockDiagonalGappyKeysMask": lambda bias: None,
    "BlockDiagonalCausalWithOffsetGappyKeysMask": lambda bias: Causal(bottom_right=True),
    "PagedBlockDiagonalPaddedKeysMask": lambda bias: None,
    "PagedBlockDiagonalCausalWithOffsetPaddedKeysMask": lambda bias: Causal(bottom_right=True),
    "PagedBlockDiagonalGappyKeysMask": lambda bias: None,
    "PagedBlockDiagonalCausalWithOffsetGappyKeysMask": lambda bias: Causal(bottom_right=True),
    "LowerTriangularMask": lambda bias: Causal(),
    "LowerTriangularMaskWithTensorBias": lambda bias: Causal(),
    "LowerTriangularFromBottomRightMask": lambda bias: Causal(bottom_right=True),
    "LowerTriangularFromBottomRightLocalAttentionMask": lambda bias: _window(bias, True),
    "LocalAttentionFromBottomRightMask": _both_ways,
}


def from_bias(bias: Any, alone: bool = True) -> SpecFields:
    """Read ``attn_bias`` of xFormers: a tensor added to the scores, or a mask object.

    Parameters
    ----------
    bias
        The tensor or object.
    alone
        Whether nothing else describes the pattern; then events may be counted anew.

    Raises
    ------
    TypeError
        If there is nothing here for its class.
    ValueError
        If all its events are empty, or some are and it is not alone.
    """
    if bias is None:
        return {}
    if isinstance(bias, Tensor):
        return {"mask": bias}
    kind = type(bias).__name__
    if kind not in _MASKS:
        raise TypeError(
            f"attn_bias of type {kind} is not supported; give a tensor or a mask of xFormers, such "
            f"as {min(_MASKS, key=len)}; those of ours are given as mask"
        )
    mask, pattern = _MASKS[kind](bias), SpecFields()
    if hasattr(bias, "q_seqinfo"):
        device = bias.q_seqinfo.seqstart.device
        empty = min(*_differences(bias.q_seqinfo.seqstart_py), *_keys(bias).lengths) == 0
        if empty and not alone:
            raise ValueError(f"{kind} has empty events; leave them out to combine it with others")
        pattern = (_events_with_empty_ones if empty else _events)(bias, device)
    if hasattr(bias, "_bias"):
        pattern["score"] = DenseBias(bias._bias)
    if mask is not None:
        pattern["mask"] = mask & pattern["mask"] if "mask" in pattern else mask
    return pattern


def from_offsets(queries: Tensor | None, keys: Tensor | None) -> SpecFields:
    """Read ``cu_seqlens`` of flash-attention."""
    if queries is None and keys is None:
        return {}
    if queries is None or keys is None:
        raise ValueError("give both cu_seqlens_q and cu_seqlens_k")
    pattern = {"packing": Packing.from_ptr(queries)}
    if keys is not queries:
        pattern["kv_packing"] = Packing.from_ptr(keys)
    return pattern
