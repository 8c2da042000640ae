"""The linear map of four-vectors and scalars on CUDA.

By the products of multivector states, whose scalar sector the scalars are, and without bivectors:
vectors and scalars are one launch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.matmul import as_rows
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops.linear.triton_products import product, weight_gradients

if TYPE_CHECKING:
    from lgatr.ops.slim_linear.stage import SlimLinear


def _state(v: Tensor, s: Tensor) -> Sectors:
    """``v (..., 4, C)`` and ``s (..., S)`` as the rows of a state without bivectors."""
    rows = v.flatten(0, -3).movedim(-2, 0) if v.dim() > 2 else v.unsqueeze(1)
    return Sectors(as_rows(s), rows, v.new_empty(0, *rows.shape[1:]))


def _product(
    v: Tensor, s: Tensor, of_v: Tensor, of_s: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    out = v.new_empty(*v.shape[:-1], len(of_v)), s.new_empty(*s.shape[:-1], len(of_s))
    product(_state(v, s), (of_s, of_v, of_v), bias, _state(*out))
    return out


def slim_linear(
    settings: SlimLinear, v: Tensor, s: Tensor, of_v: Tensor, of_s: Tensor, bias: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    return _product(v.contiguous(), s.contiguous(), of_v, of_s, bias), ()


def slim_linear_gradients(
    settings: SlimLinear, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    v, s, of_v, of_s, bias = inputs
    assert v is not None and s is not None and of_v is not None and of_s is not None
    gv, gs = (g.contiguous() for g in grads)
    of_states = _product(gv, gs, of_v.t(), of_s.t(), None)
    state = _state(v.contiguous(), s.contiguous())
    to_s, to_v, _, *to_bias = weight_gradients(_state(gv, gs), state, bias is not None)
    return *of_states, to_v, to_s, to_bias[0] if to_bias else None


SLIM_LINEAR = Passes(slim_linear, slim_linear_gradients)
