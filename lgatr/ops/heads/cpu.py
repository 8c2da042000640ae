"""Hidden states to attention heads and back in C++ (``heads.cpp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors, flat
from lgatr.ops._runtime.arguments import SIGNS, Argument, Real, Size, State, given, out, sizes
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.cpu import kernel
from lgatr.ops._runtime.matmul import input_gradient, products
from lgatr.ops._runtime.scratch import scratch
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops.heads.parts import ROWS, joined
from lgatr.ops.linear.placement import matrices_of, place_gradients, placement_of
from lgatr.ops.norm.formula import SCALAR_EPSILON, floor_factor

if TYPE_CHECKING:
    from lgatr.ops.heads.stage import FromHeads, ToHeads

_TOKENS = 1024
"""Tokens of a piece, so that its intermediate results stay in the caches."""

_BY_HEAD, _BY_HEAD_OUT = State("N * (W + S)", "N * W"), State("N * (W + S)", "N * W", written=True)
_SIZES: dict[str, Argument] = {
    "T": Size(), "N": Size(), "W": Size(multiple=2), "S": Size(),
}  # fmt: skip
_HEAD = "T", "N", "8 * W + S"
_HEADS = kernel("heads", {
    "x": _BY_HEAD, "out": out(*_HEAD), "factor": out("T", "N"), "deviation": out("T", "N"),
    **_SIZES, "epsilon": Real(), "epsilon_s": Real(), **SIGNS,
})  # fmt: skip
_GRADIENT = kernel("heads_gradient", {
    "h": given(*_HEAD), "grad": given(*_HEAD), "out": _BY_HEAD_OUT, "factor": given("T", "N"),
    "deviation": given("T", "N"), **_SIZES, "epsilon": Real(), "limit": Real(), **SIGNS,
})  # fmt: skip
_FROM = kernel("from_heads", {"packed": given(*_HEAD), "x": _BY_HEAD_OUT, **sizes("T N W S")})
_TO = kernel("to_heads", {"packed": out(*_HEAD), "x": _BY_HEAD, **sizes("T N W S")})


def _pieces(tokens: int) -> list[slice]:
    count = -(-tokens // _TOKENS)
    size = -(-tokens // count)
    return [slice(start, start + size) for start in range(0, tokens, size)]


def to_heads(
    settings: ToHeads, z: Tensor, v: Tensor, b: Tensor, *inputs: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass; keeps the factors of multivectors and scalars, and assembled matrices."""
    matrices, bias, placed = matrices_of(settings.linear.formula, inputs)
    n, t, s = settings.groups, len(z), settings.scalars
    w = len(matrices[1]) // n
    heads = z.new_empty(t, n, ROWS * w + s)
    factors, scales = z.new_empty(2, t, n).unbind(0)
    epsilon = -1.0 if settings.epsilon is None else float(settings.epsilon)
    for piece in _pieces(t):
        x = z[piece], v[:, piece].flatten(0, 1), b[:, piece].flatten(0, 1)
        rows = products(x, matrices, (bias, None, None))
        y = rows[0], rows[1].unflatten(0, (NUM_VECTORS, -1)), rows[2].unflatten(
            0, (NUM_BIVECTORS, -1)
        )  # fmt: skip
        _HEADS(
            z, y, heads[piece], factors[piece], scales[piece], len(rows[0]), n, w, s,
            epsilon, SCALAR_EPSILON, *settings.signs,
        )  # fmt: skip
    return heads.unflatten(1, (-1, settings.heads)).unbind(1), (factors, scales, *placed)


def to_heads_gradients(
    settings: ToHeads, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    states = [x for x in inputs[:3] if x is not None]
    placement = placement_of(settings.linear.formula, inputs[3:])
    matrices = kept[2:] if placement is not None else [m for m in inputs[3:6] if m is not None]
    has_bias = len(placement.out_shapes) > 3 if placement is not None else inputs[6] is not None
    heads, grad = joined(outputs), joined(grads)
    n, s, t = settings.groups, settings.scalars, len(heads)
    w = len(matrices[1]) // n
    epsilon = -1.0 if settings.epsilon is None else float(settings.epsilon)
    limit = 0.0 if settings.epsilon is None else floor_factor(settings.epsilon, heads.dtype)
    gradients = [torch.empty_like(x) for x in states]
    of_matrices = [torch.zeros_like(m) for m in matrices]
    of_bias = heads.new_zeros(len(matrices[0]))
    for piece in _pieces(t):
        h, g, factor, scale = heads[piece], grad[piece], kept[0][piece], kept[1][piece]
        d = (
            scratch("gradient of scalars", (len(h), n * (w + s)), h),
            scratch("gradient of vectors", (NUM_VECTORS, len(h), n * w), h),
            scratch("gradient of bivectors", (NUM_BIVECTORS, len(h), n * w), h),
        )
        _GRADIENT(h, h, g, d, factor, scale, len(h), n, w, s, epsilon, limit, *settings.signs)
        gradients[0][piece] = input_gradient(d[0], matrices[0])
        of_matrices[0].addmm_(d[0].t(), states[0][piece])
        if has_bias:
            of_bias += d[0].sum(0)
        for i in (1, 2):
            rows, x = d[i].flatten(0, 1), states[i]
            found = input_gradient(rows, matrices[i]).unflatten(0, (len(x), -1))
            gradients[i][:, piece] = found
            of_matrices[i].addmm_(rows.t(), x[:, piece].flatten(0, 1))
    bias = [of_bias] if has_bias else []
    if placement is not None:
        return *gradients, *place_gradients(placement, inputs[3:], [*of_matrices, *bias])
    return *gradients, *of_matrices, of_bias if has_bias else None


def from_heads(settings: FromHeads, heads: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    t, n, d = heads.shape
    w, s = settings.width, d - ROWS * settings.width
    rows = heads.new_empty(ROWS - 1, t, n * w)
    found = heads.new_empty(t, n * (w + s)), rows[:NUM_VECTORS], rows[NUM_VECTORS:]
    _FROM(heads, heads.contiguous(), found, t, n, w, s)
    return found, ()


def from_heads_gradients(
    settings: FromHeads, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    (heads,) = inputs
    assert heads is not None
    (t, n, d), w = heads.shape, settings.width
    found = heads.new_empty(t, n, d)
    _TO(heads, found, flat(Sectors(*grads)), t, n, w, d - ROWS * w)
    return (found,)


TO_HEADS = Passes(to_heads, to_heads_gradients)
FROM_HEADS = Passes(from_heads, from_heads_gradients)
