"""Equivariant linear maps on CUDA: all eight rows of a state in one launch.

The three products of a map are small: some ten operations for each byte, in three launches of a
library; :mod:`.triton_products` has them in one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lgatr.layout import Sectors, flat, unflat
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops.linear.placement import matrices_of, place_gradients, placement_of
from lgatr.ops.linear.triton_matrices import look_up
from lgatr.ops.linear.triton_products import (
    NO_HEADS,
    Heads,
    Matrices,
    product,
    weight_gradients,
)

if TYPE_CHECKING:
    from lgatr.ops.linear.stage import Linear


def _look_up(parts: list[Tensor], table: Tensor, signs: Tensor, first: int) -> Tensor:
    """:func:`lgatr.ops.linear.placement.look_up` by one launch."""
    return look_up(_joined(parts), table, signs, first)


def _joined(parts: list[Tensor]) -> list[Tensor]:
    """Parts that lie one after the other as one."""
    storage, place = parts[0].untyped_storage().data_ptr(), parts[0].storage_offset()
    total = 0
    for part in parts:
        inside = part.untyped_storage().data_ptr() == storage
        if not (inside and part.storage_offset() == place + total):
            return parts
        total += part.numel()
    return [parts[0].as_strided((total,), (1,))]


def placed_matrices(
    settings: Linear, given: Optionals
) -> tuple[Matrices, Tensor | None, tuple[Tensor, ...]]:
    """:func:`lgatr.ops.linear.placement.matrices_of` a stage, by one launch."""
    return matrices_of(settings.formula, given, _look_up)


def linear(
    settings: Linear, z: Tensor, v: Tensor, b: Tensor, *given: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.linear.stage.Linear`."""
    matrices, bias, kept = placed_matrices(settings, given)
    x = Sectors(z, v, b)
    return tuple(unflat(product(flat(x), matrices, bias), x)), kept


def linear_gradients(
    settings: Linear, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    given = inputs[3:]
    matrices = given[:3] if settings.formula is None else kept
    of_z, of_v, of_b = (None if m is None else m.t() for m in matrices)
    assert of_z is not None and of_v is not None and of_b is not None
    grad, x = Sectors(*grads), Sectors(*inputs[:3])  # type: ignore[arg-type]
    rows = flat(grad)
    of_states = unflat(product(rows, (of_z, of_v, of_b), None), grad)
    return *of_states, *of_parameters(settings, given, rows, flat(x))


def of_parameters(
    settings: Linear, given: Optionals, grad: Sectors, x: Sectors, of_heads: Heads = NO_HEADS
) -> Optionals:
    """The gradients of ``given``, from that of the outputs and the state that was mapped.

    Both are flat, or ``x`` are :func:`~lgatr.ops.linear.triton_products.rows_of_heads`.
    """
    placement = placement_of(settings.formula, given)
    with_bias = given[3] is not None if placement is None else len(placement.out_shapes) > 3
    found = weight_gradients(grad, x, with_bias, of_heads)
    if placement is None:
        return found if with_bias else [*found, None]
    return place_gradients(placement, given, found, _look_up)


LINEAR = Passes(linear, linear_gradients)
