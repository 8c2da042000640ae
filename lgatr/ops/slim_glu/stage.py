"""Gated linear units of four-vectors and scalars.

Legend: T tokens (any leading shape), O vector channels, P scalar channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lgatr.ops._runtime import cpu as native
from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.function_values import Function, FunctionValues
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors, Then
from lgatr.ops.slim_linear.stage import SlimLinearStage


@dataclass(frozen=True, eq=False)
class SlimGLUStage(Stage):
    r"""Vectors a, b, c ``(T, 4, 3 O)`` and scalars s, t ``(T, 2 P)`` to those that are gated.

    Parameters
    ----------
    formula
        The plain formula.
    function_v, function
        :math:`f_v` and :math:`f` of :math:`a f_v(\langle b, c \rangle / 2)` and :math:`s f(t)`.
    """

    formula: Callable[..., Tensors]
    function_v: Function
    function: Function

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return has_native_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    @staticmethod
    def _inner(v: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Half the inner products ``(T, O)``; T and O."""
        inner = v.new_empty(*v.shape[:-2], v.shape[-1] // 3)
        sizes = v.shape[:-2].numel(), inner.shape[-1]
        native.call("slim_inner", v, v, inner, *sizes)
        return inner, sizes

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        v, s = native.side_by_side(inputs)
        assert v is not None and s is not None
        inner, sizes = self._inner(v)
        out = v.new_empty(*v.shape[:-1], sizes[1])
        native.call("slim_gate", v, v, self.function_v(inner).contiguous(), out, *sizes)
        first, second = s.chunk(2, dim=-1)
        return (out, first * self.function(second.contiguous())), ()

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        v, s = native.side_by_side(inputs)
        gv, gs = native.side_by_side(grads)
        assert v is not None and s is not None and gs is not None
        inner, sizes = self._inner(v)
        gates, of_gates = FunctionValues(self.function_v, inner), torch.empty_like(inner)
        native.call("slim_gate_gradient", v, v, gv, of_gates, *sizes)
        of_inner, of_v = gates.pullback(of_gates), v.new_empty(v.shape)
        native.call(
            "slim_glu_gradients", v, v, gates.values.contiguous(), gv, of_inner.contiguous(), of_v,
            *sizes,
        )  # fmt: skip
        first, second = s.chunk(2, dim=-1)
        values, of_s = FunctionValues(self.function, second), s.new_empty(s.shape)
        half = first.shape[-1]
        torch.mul(gs, values.values, out=of_s[..., :half])
        of_s[..., half:] = values.pullback(gs * first)
        return of_v, of_s


class SlimGLUOfLinear(Then):
    """A linear map, then a :class:`SlimGLUStage`; what is between them is computed again.

    Parameters
    ----------
    linear, glu
        The stages.
    """

    second_inputs: ClassVar[int] = 2

    def __init__(self, linear: SlimLinearStage, glu: SlimGLUStage) -> None:
        super().__init__(linear, glu, count=5, middle="kept")
