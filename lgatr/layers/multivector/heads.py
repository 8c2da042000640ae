"""From channels to attention heads and back.

Legend: T tokens, H heads, c and cs multivector and scalar channels per head, D = 16 c + cs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors, from_sectors
from lgatr.ops.heads.stage import HeadsStage
from lgatr.primitives.attention import sector_heads
from lgatr.primitives.linear import SectorMatrices, sector_linear, sector_matrices
from lgatr.primitives.normalization import EPSILON

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention on heads ``(..., T, H, D)``; see :class:`lgatr.attention.Attention`."""


def head_projection(
    linear: EquiLinear,
    x: Sectors,
    parts: int,
    heads: int,
    metric: tuple[bool, ...],
    normalise: bool = True,
) -> tuple[Tensor, ...]:
    """Project to (normalised) heads: for each part ``(..., H, D)``.

    The parameters order output channels as (part, channel, head). Reordering the small weights
    puts each head's channels side by side, so the large activations need not be transposed.
    """
    s = linear.out_s_channels
    groups = parts * heads
    matrices = sector_matrices(linear.weight, linear.mixing(), out_groups=groups, parts=parts)

    def formula(z: Tensor, v: Tensor, b: Tensor, *map: Any) -> tuple[Tensor, ...]:
        y = sector_linear(Sectors(z, v, b), SectorMatrices(*map))
        grouped = Sectors(*(t.unflatten(-1, (parts, heads, -1)) for t in y))
        return sector_heads(grouped, metric, normalise).unbind(-3)

    stage = HeadsStage(formula, heads, metric, s // groups, EPSILON if normalise else None)
    leading = x.z.shape[:-1]
    # A single token without leading dimensions becomes a batch of one.
    z = x.z.flatten(0, -2) if leading else x.z.unsqueeze(0)
    v, b = (t.flatten(1, -2) if leading else t.unsqueeze(1) for t in (x.v, x.b))
    outputs = stage(z, v, b, *matrices)
    return tuple(out.view(*leading, *out.shape[1:]) for out in outputs)


def joining_matrices(
    linear: EquiLinear, heads: int, head_scale: nn.Parameter | None
) -> SectorMatrices:
    """The output map for channels ordered by head, with the head scale folded in."""
    m = linear.matrices(in_groups=heads)
    if head_scale is None:
        return m
    scale = head_scale.unsqueeze(-1)
    z, v, b = ((w.unflatten(1, (heads, -1)) * scale).flatten(1) for w in m[:3])
    return SectorMatrices(z, v, b, m.bias)


def public_heads(x: Tensor, mv_channels: int) -> tuple[Tensor, Tensor | None]:
    """Heads ``(..., T, H, D)`` as multivectors ``(..., H, T, c, 16)`` and scalars or None."""
    c2 = 2 * mv_channels
    rows = (NUM_VECTORS + NUM_BIVECTORS) * c2
    z, v, b = x.split([x.shape[-1] - rows, NUM_VECTORS * c2, NUM_BIVECTORS * c2], dim=-1)
    v, b = (t.unflatten(-1, (-1, c2)).movedim(-2, 0) for t in (v, b))
    multivectors, scalars = from_sectors(Sectors(z, v, b))
    s = scalars.transpose(-3, -2) if scalars.shape[-1] else None
    return multivectors.transpose(-4, -3), s
