"""Hidden states to attention heads and back, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.algebra import PAIR_METRIC
from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors, constant
from lgatr.ops.norm.formula import EPSILON, inverse_norm

# sector_heads multiplies the first vector row like the scalars, all later rows with the opposite.
assert PAIR_METRIC == (1, 1) + (-1,) * (len(PAIR_METRIC) - 2)


def sector_heads(x: Sectors, metric: tuple[bool, ...], epsilon: float | None = EPSILON) -> Tensor:
    """Normalise every head and flatten it for a dot-product attention backend.

    Parameters
    ----------
    x
        ``z (..., P, H, 2c + cs)``, ``v (4, ..., P, H, 2c)``, ``b (3, ..., P, H, 2c)`` with P
        parts such as queries, keys and values.
    metric
        For each part whether it gets the signs of the inner product.
    epsilon
        Floor of the mean squared norm; None leaves heads as they are, but for the flattening.

    Returns
    -------
    ``(..., P, H, D)``; within a head: scalar pairs, scalars, vector pairs, bivector pairs.
    """
    c = x.mv_channels
    signs = [s for part in metric for s in [1.0] * c + [-1.0 if part else 1.0] * c]
    flipped = [s for part in metric for s in [-1.0 if part else 1.0] * c + [1.0] * c]
    factor = x.z.new_ones(()) if epsilon is None else inverse_norm(x, epsilon)
    first, later = (
        factor * constant(tuple(table), factor.device, factor.dtype).view(-1, 1, 2 * c)
        for table in (signs, flipped)
    )
    parts = [x.z[..., : 2 * c] * first]
    if x.s_channels:
        s = x.scalars
        parts.append(s if epsilon is None else F.layer_norm(s, s.shape[-1:]))
    if torch.compiler.is_compiling():
        # One view instead of rows: inductor of torch 2.13 writes the stacked gradient of three
        # rows in place of an operand that it still reads.
        rows = [x.v[:1] * first, x.v[1:] * later, x.b * later]
        parts += [row.movedim(0, -2).flatten(-2) for row in rows]
    else:
        vectors = x.v.unbind(0)
        parts += [vectors[0] * first, *(row * later for row in (*vectors[1:], *x.b.unbind(0)))]
    return torch.cat(parts, dim=-1)


def split_heads(x: Tensor, mv_channels: int) -> Sectors:
    """Undo the flattening of heads ``(..., H, D)``: a state whose tokens are ``(..., H)``."""
    c2 = 2 * mv_channels
    rows = (NUM_VECTORS + NUM_BIVECTORS) * c2
    z, v, b = x.split([x.shape[-1] - rows, NUM_VECTORS * c2, NUM_BIVECTORS * c2], dim=-1)
    v, b = (t.unflatten(-1, (-1, c2)).movedim(-2, 0) for t in (v, b))
    return Sectors(z, v, b)


def sectors_from_heads(x: Tensor, mv_channels: int) -> Sectors:
    """Undo the flattening: ``(..., H, D)`` to sectors with channels ordered by head."""
    return Sectors(*(t.flatten(-2) for t in split_heads(x, mv_channels)))
