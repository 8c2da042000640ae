"""The linear map on CPUs: torch's matrix products, and parameters into matrices by look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.matmul import as_rows, input_gradient, products, weight_gradient
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops.linear.placement import gradients_of_map, matrices_of, placement_of

if TYPE_CHECKING:
    from lgatr.ops.linear.stage import Linear


def linear(
    settings: Linear, z: Tensor, v: Tensor, b: Tensor, *given: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.linear.stage.Linear`."""
    matrices, bias, kept = matrices_of(settings.formula, given)
    # Not as rows: a view of rows would be another kind of input for compiled blocks.
    x = z.contiguous(), v.contiguous(), b.contiguous()
    return products(x, matrices, (bias, None, None)), kept


def linear_gradients(
    settings: Linear, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    given = inputs[3:]
    placement = placement_of(settings.formula, given)
    matrices = given[:3] if placement is None else kept
    of_states, of_matrices = [], []
    for x, matrix, grad in zip(inputs[:3], matrices, grads, strict=True):
        assert x is not None and matrix is not None
        rows = as_rows(grad)
        of_states.append(input_gradient(rows, matrix).view(x.shape))
        of_matrices.append(weight_gradient(rows, as_rows(x)))
    return *of_states, *gradients_of_map(placement, given, of_matrices, grads[0])


LINEAR = Passes(linear, linear_gradients)
