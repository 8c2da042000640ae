"""Packed attention in one call on CUDA: torch's memory-efficient kernel takes offsets.

It is the kernel behind ``scaled_dot_product_attention`` for float32, float16 and bfloat16, and has
derivatives; only torch's public function has no argument for offsets.

Legend: T query tokens, U key tokens, H heads, K key-value heads (H or a divisor), D head width.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

# The kernel reads 16 bytes at a time.
_BYTES = 16
_NO_MASK, _TOP_LEFT, _BOTTOM_RIGHT = 0, 1, 2


class EventOffsets(Protocol):
    """The part of :class:`lgatr.attention.Packing` that the kernel needs."""

    @property
    def ptr(self) -> Tensor:
        """``(B + 1,)`` int32 offsets."""

    @property
    def max_length(self) -> int:
        """Length of the longest event."""


def mask_type(band: tuple[int | None, int | None, bool] | None) -> tuple[int, int | None] | None:
    """The kernel's numbers for a band ``(left, right, bottom_right)``: mask type and window.

    None where it has no such mask.
    """
    if band is None:
        return _NO_MASK, None
    left, right, bottom_right = band
    if right != 0:
        return None
    # A window counts the query's own position.
    return _BOTTOM_RIGHT if bottom_right else _TOP_LEFT, None if left is None else left + 1


def efficient_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: EventOffsets,
    keys: EventOffsets,
    band: tuple[int | None, int | None, bool] | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor | None:
    """Attention on ``(T, H, D)`` and ``(U, K, D)``, or None if the kernel lacks the mask.

    Parameters
    ----------
    q, k, v
        On a CUDA device, in float32, float16 or bfloat16.
    queries, keys
        Offsets of the events, int32.
    band
        See :class:`lgatr.attention.pattern.masks.Band`.
    dropout, scale
        As for :func:`torch.nn.functional.scaled_dot_product_attention`.
    """
    numbers = mask_type(band)
    if numbers is None:
        return None
    kind, window = numbers
    heads, width, wide = q.shape[1], q.shape[2], v.shape[2]
    scale = 1.0 / math.sqrt(width) if scale is None else scale
    step = _BYTES // q.element_size()

    def padded(x: Tensor) -> Tensor:
        if x.shape[1] != heads:
            x = x.repeat_interleave(heads // x.shape[1], dim=1)
        return F.pad(x, (0, -x.shape[2] % step)).unsqueeze(0)

    call = _Call(queries.max_length, keys.max_length, dropout, kind, scale, window)
    ptr_q, ptr_k = queries.ptr.to(q.device), keys.ptr.to(q.device)
    out: Tensor = _Attention.apply(padded(q), padded(k), padded(v), ptr_q, ptr_k, call)
    return out[0, :, :, :wide]


class _Call(NamedTuple):
    """Arguments of the kernel besides tensors."""

    max_q: int
    max_k: int
    dropout: float
    kind: int
    scale: float
    window: int | None


class _Attention(torch.autograd.Function):
    """The kernel and its gradient; torch's own derivative ignores windows."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, ptr_q: Tensor, ptr_k: Tensor, call: _Call
    ) -> Tensor:
        needs_lse = any(ctx.needs_input_grad)
        out, lse, seed, offset, max_q, max_k = torch.ops.aten._efficient_attention_forward(
            q, k, v, None, ptr_q, ptr_k, call.max_q, call.max_k, call.dropout, call.kind, needs_lse,
            scale=call.scale, window_size=call.window,
        )  # fmt: skip
        ctx.save_for_backward(q, k, v, out, lse, ptr_q, ptr_k, seed, offset)
        ctx.call, ctx.limits = call, (max_q, max_k)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, ptr_q, ptr_k, seed, offset = ctx.saved_tensors
        call: _Call = ctx.call
        *grads, _ = torch.ops.aten._efficient_attention_backward(
            grad, q, k, v, None, out, ptr_q, ptr_k, *ctx.limits, lse, call.dropout, seed, offset,
            call.kind, False, scale=call.scale, window_size=call.window,
        )  # fmt: skip
        return *grads, None, None, None
