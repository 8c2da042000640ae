"""Equivariant layer normalisation."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.layout import Sectors
from lgatr.ops._runtime.stage import Then
from lgatr.ops.norm.stage import NormOfOutputs, NormStage
from lgatr.primitives.invariants import abs_squared_norm, sector_squared_norm
from lgatr.primitives.linear import LINEAR, SectorMatrices
from lgatr.utils.arguments import check_floor
from lgatr.utils.inputs import check_multivectors

EPSILON = 0.01
"""Floor of the mean squared norm. Large, because light-like components do not count in it."""


def equi_layer_norm(
    x: Tensor,
    channel_dim: int = -2,
    gain: float | Tensor = 1.0,
    epsilon: float | Tensor = EPSILON,
) -> Tensor:
    r"""Divide multivectors by the root mean square of their norms over the channels.

    :math:`y = g\,x / \sqrt{\max(\mathrm{mean}_c |x_c|^2, \epsilon)}` with the norm of
    :func:`~lgatr.primitives.invariants.abs_squared_norm` (arXiv:2411.00446, section 2).

    Parameters
    ----------
    x
        Multivectors ``(..., C, 16)``.
    channel_dim
        Where the channels are.
    gain
        Factor on the result.
    epsilon
        Floor of the mean squared norm.
    """
    check_multivectors("x", x, pointwise=True)
    if not isinstance(epsilon, Tensor):
        check_floor("epsilon", epsilon)
    if not -x.dim() <= channel_dim < x.dim():
        raise ValueError(f"x of shape {tuple(x.shape)} has no dimension {channel_dim}: channel_dim")
    squared = abs_squared_norm(x).mean(dim=channel_dim, keepdim=True)
    floor = torch.as_tensor(epsilon, device=x.device, dtype=x.dtype)
    return gain * x * torch.maximum(squared, floor).rsqrt()


def inverse_norm(x: Sectors, epsilon: float = EPSILON) -> Tensor:
    """The factor ``(T, 1)`` that normalises the multivectors of a state."""
    return (sector_squared_norm(x) / x.mv_channels).clamp(min=epsilon).rsqrt()


def sector_layer_norm(
    x: Sectors,
    weight_mv: Tensor | None = None,
    weight_s: Tensor | None = None,
    epsilon: float = EPSILON,
    gain: float = 1.0,
) -> Sectors:
    """Normalise the multivectors of a state, and its scalars by ordinary layer norm.

    Parameters
    ----------
    x
        The state.
    weight_mv
        Gain of each channel and grade, ``(C, 5)``.
    weight_s
        Gain of each scalar channel, ``(S,)``.
    epsilon
        Floor of the mean squared norm.
    gain
        Factor on the multivectors.
    """
    formula = partial(_plain_norm, epsilon, gain)
    return Sectors(*NormStage(formula, epsilon, gain)(*x, weight_mv, weight_s))


def sector_linear_norm(
    x: Sectors, matrices: SectorMatrices, epsilon: float = EPSILON, gain: float = 1.0
) -> Sectors:
    """:func:`sector_layer_norm` without learned gains of a linear map, as one stage."""
    norm = NormOfOutputs(partial(_plain_norm, epsilon, gain), epsilon, gain)
    stage = Then(LINEAR, norm, count=7, middle="nothing")
    return Sectors(*stage(*x, *matrices, None, None))


def _plain_norm(
    epsilon: float,
    gain: float,
    z: Tensor,
    v: Tensor,
    b: Tensor,
    weight_mv: Tensor | None,
    weight_s: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The plain formula of :func:`sector_layer_norm`."""
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
