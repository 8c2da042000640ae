"""Scalar gates of hidden states, alone and before a linear map."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.function_values import Function
from lgatr.ops._runtime.stage import Fused, Stage, Tensors
from lgatr.ops.gate.formula import gated
from lgatr.ops.linear.stage import Linear


@dataclass(frozen=True, eq=False)
class Gate(Stage):
    """Inputs and outputs are z, v and b.

    Parameters
    ----------
    function
        Of the scalars of multivectors.
    scalar_function
        Of the auxiliary scalars.
    """

    operation = Operation(__package__, "gate", CPP, TRITON)
    function: Function
    scalar_function: Function

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return gated(self.function, self.scalar_function, *inputs)  # type: ignore[arg-type]


class GatedLinear(Fused):
    """A :class:`Gate`, then a linear map.

    On CUDA the gates are applied while the linear map reads, where that was measured to be faster.

    Parameters
    ----------
    gate, linear
        The stages.
    """

    operation = Operation(__package__, "gated_linear", TRITON, otherwise="gate, linear")

    def __init__(self, gate: Gate, linear: Linear) -> None:
        super().__init__(gate, linear, count=3, intermediate="recomputed")
        self.gate, self.linear = gate, linear
