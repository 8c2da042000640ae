"""Patterns as users of other libraries write them: xFormers' masks, offsets, functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lgatr.attention.keys import GappyKeys, KeyStorage, PaddedKeys, PagedKeys
from lgatr.attention.masks import Causal, Mask, SlidingWindow
from lgatr.attention.packing import Packing
from lgatr.attention.scores import DenseBias

Pattern = dict[str, Any]


def _differences(offsets: list[int]) -> list[int]:
    return [b - a for a, b in zip(offsets, offsets[1:], strict=False)]


def _events(bias: Any) -> Pattern:
    device = bias.q_seqinfo.seqstart.device
    queries = _differences(bias.q_seqinfo.seqstart_py)
    pattern: Pattern = {"packing": Packing.from_lengths(queries, device)}
    keys = _keys(bias, device)
    if not (isinstance(keys, Packing) and keys == pattern["packing"]):
        pattern["kv_packing"] = keys
    return pattern


def _keys(bias: Any, device: Any) -> Packing | KeyStorage:
    info = bias.k_seqinfo
    if hasattr(bias, "block_tables"):
        lengths = info.seqlen_cpu if hasattr(info, "seqlen_cpu") else info.seqlen.cpu()
        return PagedKeys(bias.block_tables, bias.page_size, tuple(lengths.tolist()))
    if hasattr(info, "padding"):
        return PaddedKeys(info.padding, tuple(info.seqlen_py))
    if type(info).__name__ == "_GappySeqInfo":
        return GappyKeys(tuple(info.seqstart_py[:-1]), tuple(info.seqlen.tolist()))
    return Packing.from_lengths(_differences(info.seqstart_py), device)


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
    "LowerTriangularMask": lambda bias: Causal(),
    "LowerTriangularMaskWithTensorBias": lambda bias: Causal(),
    "LowerTriangularFromBottomRightMask": lambda bias: Causal(bottom_right=True),
    "LowerTriangularFromBottomRightLocalAttentionMask": lambda bias: _window(bias, True),
    "LocalAttentionFromBottomRightMask": _both_ways,
}


def from_bias(bias: Any) -> Pattern:
    """Read ``attn_bias`` of xFormers: a tensor added to the scores, or a mask object.

    Raises
    ------
    TypeError
        If there is nothing here for its class.
    """
    if bias is None:
        return {}
    if isinstance(bias, Tensor):
        return {"mask": bias}
    kind = type(bias).__name__
    if kind not in _MASKS:
        raise TypeError(
            f"attn_bias of type {kind} is not supported; give a tensor or one of "
            f"{', '.join(sorted(_MASKS))}"
        )
    mask = _MASKS[kind](bias)
    pattern = _events(bias) if hasattr(bias, "q_seqinfo") else {}
    if hasattr(bias, "_bias"):
        pattern["score"] = DenseBias(bias._bias)
    return pattern if mask is None else {**pattern, "mask": mask}


def from_offsets(queries: Tensor | None, keys: Tensor | None) -> Pattern:
    """Read ``cu_seqlens`` of flash-attention."""
    if queries is None and keys is None:
        return {}
    if queries is None or keys is None:
        raise ValueError("give both cu_seqlens_q and cu_seqlens_k")
    pattern = {"packing": Packing.from_ptr(queries)}
    if keys is not queries:
        pattern["kv_packing"] = Packing.from_ptr(keys)
    return pattern
