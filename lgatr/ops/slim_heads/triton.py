"""Four-vectors and scalars to attention heads and back on CUDA, each way in one launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops.heads.parts import joined
from lgatr.ops.slim_heads.triton_kernels import MOST_PARTS, Heads

if TYPE_CHECKING:
    from lgatr.ops.slim_heads.stage import SlimFromHeads, SlimToHeads


def _kernels(settings: SlimToHeads, tokens: int) -> Heads:
    groups = settings.heads * len(settings.metric)
    return Heads(tokens, groups, settings.channels, *settings.signs)


def slim_to_heads(settings: SlimToHeads, v: Tensor, s: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass; keeps the factor of each head."""
    v, s = v.contiguous(), s.contiguous()
    groups, leading = settings.heads * len(settings.metric), s.shape[:-1]
    c, scalars = settings.channels
    heads = v.new_empty(*leading, groups, 4 * c + scalars)
    factors = v.new_empty(*leading, groups)
    _kernels(settings, leading.numel()).forward(v, s, heads, factors, settings.epsilon)
    return heads.unflatten(-2, (-1, settings.heads)).unbind(-3), (factors,)


def _flat(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """``(..., H, D)`` tensors as ``(T, H, D)``."""
    return tuple(part.reshape(-1, *part.shape[-2:]) for part in parts)


def _as_they_lie(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """``(T, H, D)`` tensors as the kernels take them, where they lie if possible."""
    if len(parts) > MOST_PARTS:
        return (joined(parts),)
    strides = parts[0].stride()
    if strides[-1] == 1 and all(x.stride() == strides for x in parts):
        return parts
    return tuple(x.contiguous() for x in parts)


def slim_to_heads_gradients(
    settings: SlimToHeads, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    leading = outputs[0].shape[:-2]
    heads = joined(_flat(outputs))
    tokens, groups, _ = heads.shape
    c, scalars = settings.channels
    of_v = heads.new_empty(*leading, 4, groups * c)
    of_s = heads.new_empty(*leading, groups * scalars)
    parts = _as_they_lie(_flat(grads))
    _kernels(settings, tokens).backward(heads, parts, kept[0], of_v, of_s)
    return of_v, of_s


def slim_from_heads(settings: SlimFromHeads, heads: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    leading, (groups, width) = heads.shape[:-2], heads.shape[-2:]
    channels = settings.channels, width - 4 * settings.channels
    v = heads.new_empty(*leading, 4, groups * channels[0])
    s = heads.new_empty(*leading, groups * channels[1])
    (rows,) = _as_they_lie(_flat((heads,)))
    Heads(len(rows), groups, channels).unpack(rows, v, s)
    return (v, s), ()


def slim_from_heads_gradients(
    settings: SlimFromHeads, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    (heads,) = inputs
    assert heads is not None
    groups, width = heads.shape[-2:]
    found, (gv, gs) = heads.new_empty(heads.shape), grads
    kernels = Heads(
        heads.shape[:-2].numel(), groups, (settings.channels, width - 4 * settings.channels)
    )
    kernels.pack(gv.contiguous(), gs.contiguous(), found)
    return (found,)


SLIM_TO_HEADS = Passes(slim_to_heads, slim_to_heads_gradients)
SLIM_FROM_HEADS = Passes(slim_from_heads, slim_from_heads_gradients)
