"""Scalar gates of hidden states, alone and before a linear map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.function_values import Function
from lgatr.ops._runtime.stage import Fused, Stage, Tensors
from lgatr.ops.gate.formula import gated
from lgatr.ops.linear.matrices import SectorMatrices
from lgatr.ops.linear.stage import Linear, SectorMap, stage_of

_GATE = Operation(__package__, "gate", CPP, TRITON)
_GATED_LINEAR = Operation(__package__, "gated_linear", TRITON, otherwise="gate, linear")


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

    operation = _GATE
    function: Function
    scalar_function: Function

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return gated(self.function, self.scalar_function, *inputs)  # type: ignore[arg-type]


class GatedLinear(Fused):
    """A :class:`Gate`, then a linear map.

    On CUDA the gates are applied while the linear map reads, where that was measured to be faster.

    Parameters
    ----------
    gate, linear
        The stages.
    """

    def __init__(self, gate: Gate, linear: Linear) -> None:
        super().__init__(gate, linear, count=3, intermediate="recomputed")
        self.gate, self.linear = gate, linear

    def run_forward(self, passes: Any, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        assert inputs[0] is not None
        together = _GATED_LINEAR.choose(inputs[0])
        if together is None:
            return super().run_forward(passes, *inputs)
        found: tuple[Tensors, Tensors] = together.forward(self, *inputs)
        return found


def gated_linear_stage(
    function: Function, scalar_function: Function, linear: Linear
) -> GatedLinear:
    """What :func:`sector_gated_linear` runs."""
    return GatedLinear(Gate(function, scalar_function), linear)


# Dynamo warns of cached functions.
_kept_gate, _kept_gated_linear = lru_cache(64)(Gate), lru_cache(256)(gated_linear_stage)


def sector_gate(x: Sectors, function: Function, scalar_function: Function | None = None) -> Sectors:
    """Multiply each multivector by ``function`` of its scalar.

    Auxiliary scalars go through ``scalar_function``, or ``function`` if that is None.
    """
    make = Gate if torch.compiler.is_compiling() else _kept_gate
    return Sectors(*make(function, scalar_function or function)(*x))


def sector_gated_linear(
    x: Sectors,
    function: Function,
    scalar_function: Function | None,
    matrices: SectorMap | SectorMatrices,
) -> Sectors:
    """A linear map of :func:`sector_gate`, as one stage."""
    linear, inputs = stage_of(matrices)
    make = gated_linear_stage if torch.compiler.is_compiling() else _kept_gated_linear
    return Sectors(*make(function, scalar_function or function, linear)(*x, *inputs))
