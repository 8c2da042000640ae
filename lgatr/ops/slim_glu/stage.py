"""The gated linear unit of four-vectors and scalars."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.function_values import Function
from lgatr.ops._runtime.stage import Fused, Stage, Tensors
from lgatr.ops.slim_glu.formula import gated_units
from lgatr.ops.slim_linear.stage import SLIM_LINEAR_STAGE


@dataclass(frozen=True, eq=False)
class GatedUnits(Stage):
    r"""Vectors a, b, c ``(T, 4, 3 O)`` and scalars s, t ``(T, 2 P)`` to those that are gated.

    Parameters
    ----------
    function_v, function
        :math:`f_v` and :math:`f` of :math:`a f_v(\langle b, c \rangle / 2)` and :math:`s f(t)`.
    """

    operation = Operation(__package__, "slim_glu", CPP, TRITON)
    function_v: Function
    function: Function

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return gated_units(self.function_v, self.function, *inputs)  # type: ignore[arg-type]


def linear_glu(units: GatedUnits) -> Fused:
    """A linear map and the gated linear unit behind it, as one stage.

    Its inputs are vectors, scalars, and :class:`~lgatr.ops.slim_linear.formula.VectorMatrices` to
    ``3 O`` vector and ``2 P`` scalar channels.
    """
    return Fused(SLIM_LINEAR_STAGE, units, 5, "kept", between=2)
