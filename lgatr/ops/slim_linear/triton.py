"""The linear map of four-vectors and scalars on CUDA, by the library's matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.matmul import as_rows
from lgatr.ops._runtime.stage import Optionals, Tensors

if TYPE_CHECKING:
    from lgatr.ops.slim_linear.stage import SlimLinear


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight.T + bias`` of rows ``(T, I)``; ``weight (O, I)`` may be a transposed view."""
    if bias is None:
        return torch.mm(x, weight.t())
    return torch.addmm(bias, x, weight.t())


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """``grad.T @ x`` of rows ``(T, O)`` and ``(T, I)``."""
    return torch.mm(grad.t(), x)


def slim_linear(
    settings: SlimLinear, v: Tensor, s: Tensor, of_v: Tensor, of_s: Tensor, bias: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    out_v, out_s = product(as_rows(v), of_v, None), product(as_rows(s), of_s, bias)
    return (out_v.view(*v.shape[:-1], len(of_v)), out_s.view(*s.shape[:-1], len(of_s))), ()


def slim_linear_gradients(
    settings: SlimLinear, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    of_states, of_matrices = [], []
    for x, matrix, grad in zip(inputs[:2], inputs[2:4], grads, strict=True):
        assert x is not None and matrix is not None
        rows = as_rows(grad)
        of_states.append(product(rows, matrix.t(), None).view(x.shape))
        of_matrices.append(weight_gradient(rows, as_rows(x)))
    of_bias = None if inputs[4] is None else as_rows(grads[1]).sum(0)
    return *of_states, *of_matrices, of_bias


SLIM_LINEAR = Passes(slim_linear, slim_linear_gradients)
