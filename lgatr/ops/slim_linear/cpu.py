"""The linear map of four-vectors and scalars by torch's matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.matmul import as_rows, input_gradient, products, weight_gradient
from lgatr.ops._runtime.stage import Optionals, Tensors

if TYPE_CHECKING:
    from lgatr.ops.slim_linear.stage import SlimLinear


def slim_linear(
    settings: SlimLinear, v: Tensor, s: Tensor, of_v: Tensor, of_s: Tensor, bias: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    return products((v.contiguous(), s.contiguous()), (of_v, of_s), (None, bias)), ()


def slim_linear_gradients(
    settings: SlimLinear, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    of_states, of_matrices = [], []
    for x, matrix, grad in zip(inputs[:2], inputs[2:4], grads, strict=True):
        assert x is not None and matrix is not None
        rows = as_rows(grad)
        of_states.append(input_gradient(rows, matrix).view(x.shape))
        of_matrices.append(weight_gradient(rows, as_rows(x)))
    of_bias = None if inputs[4] is None else as_rows(grads[1]).sum(0)
    return *of_states, *of_matrices, of_bias


SLIM_LINEAR = Passes(slim_linear, slim_linear_gradients)
