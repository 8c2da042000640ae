"""Four-vectors and scalars to attention heads and back in C++ (``slim_heads.cpp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lgatr.ops._runtime.arguments import SIGNS, Real, given, out, sizes
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.cpu import kernel
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops.heads.parts import joined

if TYPE_CHECKING:
    from lgatr.ops.slim_heads.stage import SlimFromHeads, SlimToHeads

_HEAD, _V, _S = ("T", "N", "4 * W + S"), ("T", "4", "N * W"), ("T", "N * S")
_HEADS = kernel("slim_heads", {
    "v": given(*_V), "s": given(*_S), "out": out(*_HEAD), "factor": out("T", "N"),
    **sizes("T N W S"), "epsilon": Real(), **SIGNS,
})  # fmt: skip
_GRADIENT = kernel("slim_heads_gradient", {
    "h": given(*_HEAD), "grad": given(*_HEAD), "factor": given("T", "N"), "of_v": out(*_V),
    "of_s": out(*_S), **sizes("T N W S"), **SIGNS,
})  # fmt: skip
_FROM = kernel("slim_from_heads", {
    "heads": given(*_HEAD), "v": out(*_V), "s": out(*_S), **sizes("T N W S"),
})  # fmt: skip
_TO = kernel("slim_to_heads", {
    "heads": out(*_HEAD), "v": given(*_V), "s": given(*_S), **sizes("T N W S"),
})  # fmt: skip


def slim_to_heads(settings: SlimToHeads, v: Tensor, s: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass; keeps the factor of each head."""
    v, s = v.contiguous(), s.contiguous()
    groups, leading = settings.heads * len(settings.metric), s.shape[:-1]
    c, scalars = settings.channels
    heads = v.new_empty(*leading, groups, 4 * c + scalars)
    factor = v.new_empty(*leading, groups)
    _HEADS(
        v, v, s, heads, factor, leading.numel(), groups, c, scalars, float(settings.epsilon),
        *settings.signs,
    )  # fmt: skip
    return heads.unflatten(-2, (-1, settings.heads)).unbind(-3), (factor,)


def slim_to_heads_gradients(
    settings: SlimToHeads, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    leading = outputs[0].shape[:-2]
    heads, grad = (
        joined(tuple(part.flatten(0, -3) for part in parts)) for parts in (outputs, grads)
    )
    tokens, groups, _ = heads.shape
    c, scalars = settings.channels
    of_v = heads.new_empty(*leading, 4, groups * c)
    of_s = heads.new_empty(*leading, groups * scalars)
    _GRADIENT(
        heads, heads, grad.contiguous(), kept[0], of_v, of_s, tokens, groups, c, scalars,
        *settings.signs,
    )  # fmt: skip
    return of_v, of_s


def _sizes(settings: SlimFromHeads, heads: Tensor) -> tuple[int, int, int, int]:
    tokens, groups, width = heads.shape[:-2].numel(), *heads.shape[-2:]
    return tokens, groups, settings.channels, width - 4 * settings.channels


def slim_from_heads(settings: SlimFromHeads, heads: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    heads = heads.contiguous()
    sizes = _sizes(settings, heads)
    _, groups, c, scalars = sizes
    v = heads.new_empty(*heads.shape[:-2], 4, groups * c)
    s = heads.new_empty(*heads.shape[:-2], groups * scalars)
    _FROM(heads, heads, v, s, *sizes)
    return (v, s), ()


def slim_from_heads_gradients(
    settings: SlimFromHeads, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    (heads,) = inputs
    assert heads is not None
    found, (gv, gs) = heads.new_empty(heads.shape), grads
    _TO(found, found, gv.contiguous(), gs.contiguous(), *_sizes(settings, found))
    return (found,)


SLIM_TO_HEADS = Passes(slim_to_heads, slim_to_heads_gradients)
SLIM_FROM_HEADS = Passes(slim_from_heads, slim_from_heads_gradients)
