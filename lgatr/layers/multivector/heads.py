"""Between hidden states and attention heads, with a linear layer: what all attention layers share.

Legend: T tokens, H heads, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors
from lgatr.ops.heads.formula import sector_heads, split_heads
from lgatr.ops.heads.stage import LinearOfHeads, ToHeads, of_head_rows, of_rows
from lgatr.ops.linear.matrices import Assembly
from lgatr.ops.linear.stage import Linear

Heads = tuple[Tensor, ...]
"""Heads ``(..., T, H, D)`` of each part, such as queries, keys and values."""


def to_heads(
    linear: EquiLinear, heads: int, metric: tuple[bool, ...], norm: EquiLayerNorm | None
) -> ToHeads:
    """From hidden states to heads of each part (queries, keys, values), by one linear layer.

    Parameters
    ----------
    linear
        Its output channels are ordered (part, channel, head). They are put in order (part, head,
        channel) by reordering the small weights rather than the large activations.
    heads
        Number of heads H of each part.
    metric
        For each part whether it gets the signs of the inner product.
    norm
        Of each head; None for none.
    """
    parts, groups = len(metric), len(metric) * heads
    grouped = Linear(Assembly(out_groups=groups, parts=parts))
    scalars = linear.out_s_channels // groups
    return ToHeads(grouped, heads, metric, scalars, None if norm is None else norm.epsilon)


def project(stage: ToHeads, linear: EquiLinear, x: Sectors) -> tuple[Tensor, ...]:
    """Heads ``(..., T, H, D)`` of each part, by the stage that :func:`to_heads` made."""
    if x.z.dim() == 2:
        return stage(*x, *linear.weights())
    return of_rows(stage, x, *linear.weights())


def join(
    stage: LinearOfHeads, linear: EquiLinear, heads: Tensor, head_scale: Tensor | None
) -> Sectors:
    """The output of attention from heads ``(..., T, H, D)``, which may be scaled.

    Parameters
    ----------
    stage
        A :class:`~lgatr.ops.heads.stage.LinearOfHeads`.
    linear
        The linear layer in it.
    head_scale
        ``(H,)``, or None. It multiplies the small weights rather than the large activations.
    """
    if head_scale is not None and head_scale.shape not in ((heads.shape[-2],), (1,)):
        raise ValueError(
            f"head_scale has one number for each of {heads.shape[-2]} heads, or one for all; not "
            f"the shape {tuple(head_scale.shape)}"
        )
    weights = linear.weights() if head_scale is None else linear.scaled_weights(head_scale)
    if heads.dim() == 3:
        return Sectors(*stage(heads, *weights))
    return Sectors(*of_head_rows(stage, heads, *weights))


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
    return sector_heads(grouped, metric, epsilon=None).unbind(-3)


def join_unfused(linear: EquiLinear, heads: Tensor, mv_channels: int) -> Sectors:
    """The output of attention: the linear layer, called with joined heads ``(..., T, H, D)``."""
    c = mv_channels

    def joined(rows: Tensor) -> Tensor:
        channels = rows[..., :c], rows[..., c : 2 * c], rows[..., 2 * c :]
        return torch.cat([t.flatten(-2) for t in channels], dim=-1)

    y: Sectors = linear(Sectors(*(joined(rows) for rows in split_heads(heads, c))))
    return y
