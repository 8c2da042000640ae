"""Four-vectors and scalars to attention heads and back, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.algebra import METRIC
from lgatr.layout import constant
from lgatr.ops.slim_norm.formula import EPSILON, inverse_rms


def vector_heads(
    vectors: Tensor, scalars: Tensor, metric: tuple[bool, ...], epsilon: float = EPSILON
) -> Tensor:
    """Normalise every head and flatten it for a dot-product attention backend.

    Parameters
    ----------
    vectors, scalars
        ``(..., 4, P, H, c)`` and ``(..., P, H, cs)``.
    metric
        For each part whether it gets the signs of the inner product.
    epsilon
        Added to the mean square.

    Returns
    -------
    ``(..., P, H, D)``.
    """
    components = vectors.movedim(-4, -2)
    factor = inverse_rms(components, scalars, epsilon)
    signs = tuple(-1.0 if part else 1.0 for part in metric)
    spatial = factor * constant(signs, factor.device, factor.dtype).view(-1, 1, 1)
    rows = [
        row * (factor if sign > 0 else spatial)
        for row, sign in zip(components.unbind(-2), METRIC, strict=True)
    ]
    return torch.cat([*rows, scalars * factor], dim=-1)


def vectors_from_heads(x: Tensor, v_channels: int) -> tuple[Tensor, Tensor]:
    """Undo the flattening: ``(..., H, D)`` to ``(..., 4, H c)`` and ``(..., H cs)``."""
    width = 4 * v_channels
    vectors = x[..., :width].unflatten(-1, (4, v_channels)).movedim(-2, -3).flatten(-2)
    return vectors, x[..., width:].flatten(-2)
