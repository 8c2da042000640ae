"""Scalar gates in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.ops._runtime.function_values import Function


def gated(
    function: Function, scalar_function: Function, z: Tensor, v: Tensor, b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The state with every multivector times ``function`` of its scalar."""
    c2, s = v.shape[-1], z[..., v.shape[-1] :]
    gate = function(z[..., : c2 // 2])
    gate = torch.cat([gate, gate], dim=-1)
    z = z[..., :c2] * gate
    if s.shape[-1]:
        z = torch.cat([z, scalar_function(s)], dim=-1)
    return z, v * gate, b * gate
