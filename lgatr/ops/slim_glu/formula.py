"""Gated linear units of four-vectors and scalars in plain torch."""

from __future__ import annotations

from torch import Tensor

from lgatr.ops._runtime.function_values import Function
from lgatr.ops.slim_norm.formula import minkowski_product


def gated_units(
    function_v: Function,
    function: Function,
    vectors: Tensor,
    scalars: Tensor,
) -> tuple[Tensor, Tensor]:
    """The unit after its linear map: ``(..., 4, 3 O)`` and ``(..., 2 P)`` to O and P channels."""
    value, left, right = vectors.chunk(3, dim=-1)
    gate = function_v(0.5 * minkowski_product(left, right))
    s, t = scalars.chunk(2, dim=-1)
    return value * gate.unsqueeze(-2), s * function(t)
