"""The equivariant linear map of hidden states."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lgatr.ops._runtime.choice import TORCH, TRITON, Operation
from lgatr.ops._runtime.stage import Stage, Tensors
from lgatr.ops.linear.formula import linear_map
from lgatr.ops.linear.matrices import Assembly, Formula, Placement, SideBySide, shared_placement


class Linear(Stage):
    """A linear map of ``z (..., I_z)``, ``v (4, ..., I)``, ``b (3, ..., I)``.

    The inputs after the state are the matrices of the three sectors and the bias or None; or, with
    a formula, the parameters that it makes them of.

    Parameters
    ----------
    formula
        From parameters to matrices.
    shapes
        Of the parameters; None for those that are None.
    """

    operation = Operation(__package__, "linear", TORCH, TRITON)

    def __init__(
        self, formula: Formula | None = None, shapes: tuple[torch.Size | None, ...] = ()
    ) -> None:
        self.formula, self.shapes = formula, shapes
        self.num_kept = 0 if formula is None else 3

    @property
    def count(self) -> int:
        """Number of inputs, those of the state included."""
        return 3 + (4 if self.formula is None else len(self.shapes))

    @cached_property
    def placement(self) -> Placement | None:
        """What the formula does with the entries of the parameters; None without a formula."""
        return None if self.formula is None else shared_placement(self.formula, self.shapes)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        if self.formula is None:
            return linear_map(*inputs)  # type: ignore[arg-type]
        return linear_map(*inputs[:3], *self.formula(*inputs[3:]))  # type: ignore[arg-type]


LINEAR_STAGE = Linear()
"""The map by given matrices."""


def linear_of(parameters: tuple[Tensor | None, ...], **groups: Any) -> Linear:
    """The map by :class:`~lgatr.ops.linear.matrices.Weights` of these shapes.

    Parameters
    ----------
    parameters
        The weights, or others of the same shapes.
    **groups
        See :class:`~lgatr.ops.linear.matrices.Assembly`.
    """
    shapes = tuple(None if x is None else x.shape for x in parameters)
    return Linear(Assembly(**groups), shapes)


def side_by_side(left: Linear, right: Linear) -> Linear:
    """Two maps by their parameters as one, whose inputs are those of both."""
    assert left.formula is not None and right.formula is not None
    return Linear(SideBySide(left.formula, right.formula), (*left.shapes, *right.shapes))
