"""Scalar-gated nonlinearities."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.utils.nonlinearities import NONLINEARITIES, get_nonlinearity


def sector_gate(
    x: Sectors,
    function: Callable[[Tensor], Tensor],
    scalar_function: Callable[[Tensor], Tensor] | None = None,
) -> Sectors:
    """Multiply each multivector by ``function`` of its scalar.

    Auxiliary scalars go through ``scalar_function``, or ``function`` if that is None.
    """
    c = x.mv_channels
    gate = function(x.z[..., :c])
    gate = torch.cat([gate, gate], dim=-1)
    z = x.z[..., : 2 * c] * gate
    if x.s_channels:
        z = torch.cat([z, (scalar_function or function)(x.scalars)], dim=-1)
    return Sectors(z, x.v * gate, x.b * gate)


__all__ = ["NONLINEARITIES", "get_nonlinearity", "sector_gate"]
