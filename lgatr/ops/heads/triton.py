"""Hidden states to attention heads and back on CUDA, by the kernels of ``triton_kernels.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors, flat
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops.heads.parts import ROWS, joined
from lgatr.ops.heads.triton_kernels import Heads
from lgatr.ops.linear import triton as linear
from lgatr.ops.linear.triton_products import Heads as HeadSizes
from lgatr.ops.linear.triton_products import (
    product,
    product_of_heads,
    product_to_heads,
    rows_of_heads,
)
from lgatr.ops.norm.formula import SCALAR_EPSILON, floor_factor

if TYPE_CHECKING:
    from lgatr.ops.heads.stage import FromHeads, LinearOfHeads, ToHeads


def _kernels(settings: ToHeads, w: int) -> Heads:
    return Heads(
        settings.groups, w, settings.scalars, settings.heads, settings.metric, settings.epsilon
    )


def to_heads(
    settings: ToHeads, z: Tensor, v: Tensor, b: Tensor, *inputs: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.heads.stage.ToHeads`."""
    matrices, bias, kept = linear.placed_matrices(settings.linear, inputs)
    n, t, w = settings.groups, len(z), len(matrices[1]) // settings.groups
    heads = z.new_empty(t, n, ROWS * w + settings.scalars)
    factors, scales = z.new_empty(t, n), z.new_empty(t, n)
    y = product(Sectors(z, v, b), matrices, bias)
    _kernels(settings, w).forward(y, heads, factors, scales, SCALAR_EPSILON)
    return heads.unflatten(1, (-1, settings.heads)).unbind(1), (factors, scales, *kept)


def to_heads_gradients(
    settings: ToHeads, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    given = inputs[3:]
    by_parameters = settings.linear.formula is not None
    matrices = kept[2:] if by_parameters else [m for m in given[:3] if m is not None]
    heads, grad = joined(outputs), joined(grads)
    n, s, t = settings.groups, settings.scalars, len(heads)
    w = len(matrices[1]) // n
    d = Sectors(
        heads.new_empty(t, n * (w + s)),
        heads.new_empty(NUM_VECTORS, t, n * w),
        heads.new_empty(NUM_BIVECTORS, t, n * w),
    )
    epsilon = settings.epsilon
    limit = 0.0 if epsilon is None else floor_factor(epsilon, heads.dtype)
    _kernels(settings, w).backward(heads, grad, d, (kept[0], kept[1]), limit)
    of_z, of_v, of_b = (m.t() for m in matrices)
    x = Sectors(*inputs[:3])  # type: ignore[arg-type]
    gradients = product(d, (of_z, of_v, of_b), None)
    return *gradients, *linear.of_parameters(settings.linear, given, d, flat(x))


def from_heads(settings: FromHeads, heads: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.heads.stage.FromHeads`."""
    (t, n, d), w = heads.shape, settings.width
    s = d - ROWS * w
    rows = heads.new_empty(ROWS - 1, t, n * w)
    z = heads.new_empty(t, n * (w + s))
    found = Sectors(z, rows[:NUM_VECTORS], rows[NUM_VECTORS:])
    Heads(n, w, s).unpack(heads.contiguous(), found)
    return found, ()


def from_heads_gradients(
    settings: FromHeads, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    (heads,) = inputs
    assert heads is not None
    (_, n, d), w = heads.shape, settings.width
    found = heads.new_empty(heads.shape)
    Heads(n, w, d - ROWS * w).pack(flat(Sectors(*grads)), found)
    return (found,)


def _sizes(settings: LinearOfHeads, heads: Tensor) -> HeadSizes:
    width = settings.from_heads.width
    return HeadSizes(width, heads.shape[-1] - ROWS * width)


def linear_of_heads(
    settings: LinearOfHeads, heads: Tensor, *given: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.heads.stage.LinearOfHeads`: nothing is moved before."""
    matrices, bias, kept = linear.placed_matrices(settings.linear, given)
    return product_of_heads(heads.contiguous(), _sizes(settings, heads), matrices, bias), kept


def linear_of_heads_gradients(
    settings: LinearOfHeads, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    heads, *given = inputs
    assert heads is not None
    sizes, heads, grad = _sizes(settings, heads), heads.contiguous(), flat(Sectors(*grads))
    matrices = given[:3] if settings.linear.formula is None else kept
    of_z, of_v, of_b = (None if m is None else m.t() for m in matrices)
    assert of_z is not None and of_v is not None and of_b is not None
    found = torch.empty_like(heads)
    product_to_heads(grad, (of_z, of_v, of_b), found, sizes)
    x = rows_of_heads(heads, sizes)
    return found, *linear.of_parameters(settings.linear, given, grad, x, sizes)


TO_HEADS = Passes(to_heads, to_heads_gradients)
FROM_HEADS = Passes(from_heads, from_heads_gradients)
LINEAR_OF_HEADS = Passes(linear_of_heads, linear_of_heads_gradients)
