"""The gated linear unit of four-vectors and scalars."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lgatr.ops._runtime.choice import CPP, Operation
from lgatr.ops._runtime.function_values import Function
from lgatr.ops._runtime.stage import Fused, Stage, Tensors
from lgatr.ops.slim_glu.formula import gated_units
from lgatr.ops.slim_linear.formula import VectorMatrices, vector_linear
from lgatr.ops.slim_linear.stage import SLIM_LINEAR


@dataclass(frozen=True, eq=False)
class SlimGLU(Stage):
    r"""Vectors a, b, c ``(T, 4, 3 O)`` and scalars s, t ``(T, 2 P)`` to those that are gated.

    Parameters
    ----------
    function_v, function
        :math:`f_v` and :math:`f` of :math:`a f_v(\langle b, c \rangle / 2)` and :math:`s f(t)`.
    """

    operation = Operation(__package__, "slim_glu", CPP)
    function_v: Function
    function: Function

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return gated_units(self.function_v, self.function, *inputs)  # type: ignore[arg-type]


def _linear_glu(function_v: Function, function: Function) -> Fused:
    return Fused(SLIM_LINEAR, SlimGLU(function_v, function), 5, "kept", between=2)


_kept_linear_glu = lru_cache(64)(_linear_glu)  # dynamo warns of cached functions


def vector_glu(
    vectors: Tensor,
    scalars: Tensor,
    matrices: VectorMatrices,
    function_v: Function,
    function: Function,
) -> tuple[Tensor, Tensor]:
    r"""A gated linear unit, as one stage.

    One linear map makes vectors a, b, c and scalars s, t; the results are
    :math:`a\, f_v(\langle b, c\rangle / 2)` and :math:`s\, f(t)` (arXiv:2512.17011).

    Parameters
    ----------
    vectors, scalars
        ``(..., 4, I)`` and ``(..., J)``.
    matrices
        To ``3 O`` vector and ``2 P`` scalar channels.
    function_v, function
        :math:`f_v` and :math:`f`.
    """
    if matrices.s is None:
        return gated_units(function_v, function, *vector_linear(vectors, scalars, *matrices))
    make = _linear_glu if torch.compiler.is_compiling() else _kept_linear_glu
    v, s = make(function_v, function)(vectors, scalars, *matrices)
    return v, s
