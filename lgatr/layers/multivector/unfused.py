"""Attention heads with each inner layer called, for those who look at inner layers.

Legend: T tokens, H heads, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors
from lgatr.ops.heads.formula import sector_heads, split_heads


def project_unfused(
    linear: EquiLinear,
    norm: EquiLayerNorm | None,
    x: Sectors,
    heads: int,
    metric: tuple[bool, ...],
) -> tuple[Tensor, ...]:
    """Heads of each part as of :class:`~lgatr.ops.heads.stage.ToHeads`, calling both layers."""
    y = linear(x)
    c = y.mv_channels

    def by_head(rows: Tensor) -> Tensor:
        channels = rows[..., :c], rows[..., c : 2 * c], rows[..., 2 * c :]
        split = (t.unflatten(-1, (len(metric), -1, heads)) for t in channels if t.shape[-1])
        return torch.cat([t.transpose(-1, -2) for t in split], dim=-1)

    grouped = Sectors(*(by_head(rows) for rows in y))
    if norm is not None:
        grouped = norm(grouped)
    return sector_heads(grouped, metric, normalise=False).unbind(-3)


def join_unfused(linear: EquiLinear, heads: Tensor, mv_channels: int) -> Sectors:
    """The output of attention: the linear layer, called with joined heads ``(..., T, H, D)``."""
    c = mv_channels

    def joined(rows: Tensor) -> Tensor:
        channels = rows[..., :c], rows[..., c : 2 * c], rows[..., 2 * c :]
        return torch.cat([t.flatten(-2) for t in channels], dim=-1)

    y: Sectors = linear(Sectors(*(joined(rows) for rows in split_heads(heads, c))))
    return y
