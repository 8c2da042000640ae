"""Functions of four-vector channels, for the slim networks.

Legend: T tokens, C vector channels, S scalar channels, P parts (queries, keys, values), H heads,
c and cs vector and scalar channels per head, D = 4 c + cs. Vectors are ``(..., 4, C)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.algebra import METRIC
from lgatr.kernels.matmul import linear
from lgatr.utils.autocast import full_precision, keeps_precision

EPSILON = 0.01


def minkowski_product(x: Tensor, y: Tensor) -> Tensor:
    """The inner product of four-vectors, channel by channel: ``(..., 4, C)`` to ``(..., C)``."""
    time, *space = (x * y).unbind(-2)
    for component in space:
        time = time - component
    return time


def vector_linear(
    vectors: Tensor, scalars: Tensor, weight_v: Tensor, weight_s: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mix channels, the same way for all four components; ``weight_s=None`` gives zero scalars.

    Parameters
    ----------
    vectors, scalars
        ``(..., 4, I)`` and ``(..., J)``.
    weight_v
        ``(O, I)``.
    weight_s, bias
        ``(P, J)`` and ``(P,)``, or None.
    """
    if weight_s is not None:
        scalars = linear(scalars, weight_s, bias)
    if not keeps_precision(vectors.device.type):
        return linear(vectors, weight_v), scalars
    with full_precision(vectors.device.type):
        return linear(vectors.to(weight_v.dtype), weight_v), scalars.to(weight_v.dtype)


def inverse_rms(vectors: Tensor, scalars: Tensor, epsilon: float = EPSILON) -> Tensor:
    r"""The joint factor ``(..., 1)`` that normalises vectors and scalars.

    :math:`1 / \sqrt{(\sum_c |v_c^2| + \sum_s s^2) / (C + S) + \epsilon}`.
    """
    channels = vectors.shape[-1] + scalars.shape[-1]
    square = minkowski_product(vectors, vectors).abs().sum(-1, keepdim=True)
    square = square + (scalars * scalars).sum(-1, keepdim=True)
    return (square / channels + epsilon).rsqrt()


def vector_heads(vectors: Tensor, scalars: Tensor, metric: tuple[bool, ...]) -> Tensor:
    """Normalise every head and flatten it for a dot-product attention backend.

    Parameters
    ----------
    vectors, scalars
        ``(..., 4, P, H, c)`` and ``(..., P, H, cs)``.
    metric
        For each part whether it gets the signs of the inner product.

    Returns
    -------
    ``(..., P, H, D)``.
    """
    components = vectors.movedim(-4, -2)
    factor = inverse_rms(components, scalars)
    signs = factor.new_tensor([-1.0 if part else 1.0 for part in metric]).view(-1, 1, 1)
    spatial = factor * signs
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
