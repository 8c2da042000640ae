"""The joint norm of four-vectors and scalars in plain torch."""

from __future__ import annotations

from torch import Tensor

EPSILON = 0.01
"""Added to the mean square."""


def minkowski_product(x: Tensor, y: Tensor) -> Tensor:
    """The inner product of four-vectors, channel by channel: ``(..., 4, C)`` to ``(..., C)``."""
    time, *space = (x * y).unbind(-2)
    for component in space:
        time = time - component
    return time


def inverse_rms(vectors: Tensor, scalars: Tensor, epsilon: float = EPSILON) -> Tensor:
    r"""The joint factor ``(..., 1)`` that normalises vectors and scalars.

    :math:`1 / \sqrt{(\sum_c |v_c^2| + \sum_s s^2) / (C + S) + \epsilon}`.
    """
    channels = vectors.shape[-1] + scalars.shape[-1]
    square = minkowski_product(vectors, vectors).abs().sum(-1, keepdim=True)
    square = square + (scalars * scalars).sum(-1, keepdim=True)
    return (square / channels + epsilon).rsqrt()


def rms_norm(
    epsilon: float,
    vectors: Tensor,
    scalars: Tensor,
    weight_v: Tensor | None,
    weight_s: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Vectors and scalars times :func:`inverse_rms` and their gains."""
    factor = inverse_rms(vectors, scalars, epsilon)
    if weight_v is None or weight_s is None:
        return vectors * factor.unsqueeze(-1), scalars * factor
    return vectors * (factor * weight_v).unsqueeze(-2), scalars * (factor * weight_s)
