"""Linear maps of four-vectors and of scalars, apart from each other.

Legend: T tokens (any leading shape), I and O vector channels, J and P scalar channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.matmul import as_rows, input_gradient, product, weight_gradient
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors


@dataclass(frozen=True, eq=False)
class SlimLinearStage(Stage):
    """Inputs ``v (T, 4, I)``, ``s (T, J)``, their matrices ``(O, I)`` and ``(P, J)``, the bias.

    Parameters
    ----------
    formula
        The plain formula.
    """

    formula: Callable[..., Tensors]

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return has_native_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        v, s, of_v, of_s, bias = inputs
        assert v is not None and s is not None and of_v is not None and of_s is not None
        return (product(v.contiguous(), of_v), product(s.contiguous(), of_s, bias)), ()

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        of_states, of_matrices = [], []
        for x, matrix, grad in zip(inputs[:2], inputs[2:4], grads, strict=True):
            assert x is not None and matrix is not None
            rows = as_rows(grad)
            of_states.append(input_gradient(rows, matrix).view(x.shape))
            of_matrices.append(weight_gradient(rows, as_rows(x)))
        of_bias = None if inputs[4] is None else as_rows(grads[1]).sum(0)
        return *of_states, *of_matrices, of_bias
