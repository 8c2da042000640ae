"""Scalar-gated nonlinearities."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.layout import Sectors


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": _gelu,
    "silu": F.silu,
}


def get_nonlinearity(label: str) -> Callable[[Tensor], Tensor]:
    """The function called ``label``; GELU is its tanh approximation.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    if label not in NONLINEARITIES:
        raise ValueError(f"nonlinearity must be one of {', '.join(NONLINEARITIES)}, not {label!r}")
    return NONLINEARITIES[label]


def sector_gate(x: Sectors, function: Callable[[Tensor], Tensor]) -> Sectors:
    """Multiply each multivector by ``function`` of its scalar; apply it to auxiliary scalars."""
    c = x.mv_channels
    gate = function(x.z[..., :c])
    gate = torch.cat([gate, gate], dim=-1)
    z = x.z[..., : 2 * c] * gate
    if x.s_channels:
        z = torch.cat([z, function(x.scalars)], dim=-1)
    return Sectors(z, x.v * gate, x.b * gate)
