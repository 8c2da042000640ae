"""Scalar-gated nonlinearities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lgatr.utils.inputs import broadcast, check_multivectors, check_real
from lgatr.utils.nonlinearities import NONLINEARITIES, get_nonlinearity


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
]
