"""Scalar-gated nonlinearities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops.gate.stage import GateStage
from lgatr.ops.linear.stage import GatedLinearStage
from lgatr.primitives.linear import LINEAR, SectorMatrices
from lgatr.utils.inputs import broadcast, check_multivectors, check_real
from lgatr.utils.nonlinearities import NONLINEARITIES, get_nonlinearity


def sector_gate(
    x: Sectors,
    function: Callable[[Tensor], Tensor],
    scalar_function: Callable[[Tensor], Tensor] | None = None,
) -> Sectors:
    """Multiply each multivector by ``function`` of its scalar.

    Auxiliary scalars go through ``scalar_function``, or ``function`` if that is None.
    """
    of_scalars = scalar_function or function
    formula = partial(_plain_gate, function, of_scalars)
    return Sectors(*GateStage(formula, function, of_scalars)(*x))


def sector_gated_linear(
    x: Sectors,
    function: Callable[[Tensor], Tensor],
    scalar_function: Callable[[Tensor], Tensor] | None,
    matrices: SectorMatrices,
) -> Sectors:
    """A linear map of :func:`sector_gate`, as one stage."""
    stage = gated_linear_stage(function, scalar_function or function)
    return Sectors(*stage(*x, *matrices))


def gated_linear_stage(
    function: Callable[[Tensor], Tensor], scalar_function: Callable[[Tensor], Tensor]
) -> GatedLinearStage:
    """What :func:`sector_gated_linear` runs."""
    gate = GateStage(partial(_plain_gate, function, scalar_function), function, scalar_function)
    return GatedLinearStage(gate, LINEAR)


def _plain_gate(
    function: Callable[[Tensor], Tensor],
    scalar_function: Callable[[Tensor], Tensor],
    z: Tensor,
    v: Tensor,
    b: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The plain formula of :func:`sector_gate`."""
    c2, s = v.shape[-1], z[..., v.shape[-1] :]
    gate = function(z[..., : c2 // 2])
    gate = torch.cat([gate, gate], dim=-1)
    z = z[..., :c2] * gate
    if s.shape[-1]:
        z = torch.cat([z, scalar_function(s)], dim=-1)
    return z, v * gate, b * gate


def _gated(function: Callable[[Tensor], Tensor], x: Tensor, gates: Tensor) -> Tensor:
    """Multivectors ``(..., 16)`` times ``function`` of their gates ``(..., 1)``."""
    check_multivectors("x", x, pointwise=True)
    check_real("gates", gates, "(..., 1)", like=x)
    values, x = broadcast(function(gates), x)
    return values * x


gated_relu = partial(_gated, NONLINEARITIES["relu"])
gated_sigmoid = partial(_gated, NONLINEARITIES["sigmoid"])
gated_gelu = partial(_gated, NONLINEARITIES["gelu"])
gated_silu = partial(_gated, NONLINEARITIES["silu"])


__all__ = [
    "NONLINEARITIES",
    "gated_gelu",
    "gated_relu",
    "gated_sigmoid",
    "gated_silu",
    "get_nonlinearity",
    "sector_gate",
    "sector_gated_linear",
]
