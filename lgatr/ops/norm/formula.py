"""The equivariant layer norm in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.layout import Sectors

EPSILON = 0.01
"""Floor of the mean squared norm. Large, because light-like components do not count in it."""
SCALAR_EPSILON = 1e-5
"""Added to the variance of auxiliary scalars; the default of torch's layer norm."""


def sector_squared_norm(x: Sectors) -> Tensor:
    """:func:`~lgatr.primitives.invariants.abs_squared_norm`, summed over channels: ``(T, 1)``."""
    c = x.mv_channels
    mv = x.z[..., : 2 * c]
    scalar = (mv * mv).sum(dim=-1, keepdim=True)
    squares = x.v * x.v
    vector = (squares[0] - squares[1] - squares[2] - squares[3]).abs().sum(-1, keepdim=True)
    squares = (x.b * x.b).sum(dim=0)
    bivector = (squares[..., c:] - squares[..., :c]).abs().sum(-1, keepdim=True)
    return scalar + vector + bivector


def inverse_norm(x: Sectors, epsilon: float = EPSILON) -> Tensor:
    """The factor ``(T, 1)`` that normalises the multivectors of a state."""
    return (sector_squared_norm(x) / x.mv_channels).clamp(min=epsilon).rsqrt()


def layer_norm(
    epsilon: float,
    gain: float,
    z: Tensor,
    v: Tensor,
    b: Tensor,
    weight_mv: Tensor | None,
    weight_s: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised state; gains ``(C, 5)`` by grade and ``(S,)``."""
    c2, s = v.shape[-1], z[..., v.shape[-1] :]
    factor = inverse_norm(Sectors(z, v, b), epsilon)
    if gain != 1.0:
        factor = factor * gain
    z = z[..., :c2]
    if weight_mv is None:
        z, v, b = z * factor, v * factor, b * factor
    else:
        grades = weight_mv.unbind(-1)
        z = z * (torch.cat([grades[0], grades[4]]) * factor)
        v = v * (torch.cat([grades[1], grades[3]]) * factor)
        b = b * (torch.cat([grades[2], grades[2]]) * factor)
    if s.shape[-1]:
        z = torch.cat([z, F.layer_norm(s, s.shape[-1:], weight_s)], dim=-1)
    return z, v, b


def floor_factor(epsilon: float, dtype: torch.dtype) -> float:
    """The factor from which on the floor of the norm is reached."""
    return epsilon**-0.5 * (1 - 4 * torch.finfo(dtype).eps)
