"""The equivariant linear map of hidden states."""

from __future__ import annotations

from torch import Tensor

from lgatr.ops._runtime.choice import TORCH, TRITON, Operation
from lgatr.ops._runtime.stage import Stage, Tensors
from lgatr.ops.linear.formula import linear_map
from lgatr.ops.linear.matrices import Formula, SideBySide


class Linear(Stage):
    """A linear map of ``z (..., I_z)``, ``v (4, ..., I)``, ``b (3, ..., I)``.

    The inputs after the state are the matrices of the three sectors and the bias or None; or, with
    a formula, the parameters that it makes them of.

    Parameters
    ----------
    formula
        From parameters to matrices.
    """

    operation = Operation(__package__, "linear", TORCH, TRITON)

    def __init__(self, formula: Formula | None = None) -> None:
        self.formula = formula
        self.num_kept = 0 if formula is None else 3
        self.count = 3 + (4 if formula is None else formula.count)
        """Number of inputs, those of the state included."""

    def plain(self, *inputs: Tensor | None) -> Tensors:
        if self.formula is None:
            return linear_map(*inputs)  # type: ignore[arg-type]
        return linear_map(*inputs[:3], *self.formula(*inputs[3:]))  # type: ignore[arg-type]


LINEAR_STAGE = Linear()
"""The map by given matrices."""


def side_by_side(left: Linear, right: Linear) -> Linear:
    """Two maps by their parameters as one, whose inputs are those of both."""
    assert left.formula is not None and right.formula is not None
    return Linear(SideBySide(left.formula, right.formula))
