"""The linear map of four-vectors and scalars as a stage, to be joined with others."""

from __future__ import annotations

from torch import Tensor

from lgatr.ops._runtime.choice import TORCH, TRITON, Operation
from lgatr.ops._runtime.stage import Stage, Tensors
from lgatr.ops.slim_linear.formula import vector_linear


class SlimLinear(Stage):
    """Inputs ``v (T, 4, I)``, ``s (T, J)``, their matrices ``(O, I)`` and ``(P, J)``, the bias."""

    operation = Operation(__package__, "slim_linear", TORCH, TRITON)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return vector_linear(*inputs)  # type: ignore[arg-type]


SLIM_LINEAR_STAGE = SlimLinear()
