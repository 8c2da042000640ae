"""Functions of four-vector channels, for the slim networks."""

from __future__ import annotations

from torch import Tensor

from lgatr.ops.slim_heads.formula import vector_heads, vectors_from_heads
from lgatr.ops.slim_linear.formula import VectorMatrices, vector_linear
from lgatr.ops.slim_norm.formula import EPSILON, inverse_rms, minkowski_product
from lgatr.ops.slim_norm.stage import SlimNorm
from lgatr.utils.arguments import check_floor


def vector_rms_norm(
    vectors: Tensor,
    scalars: Tensor,
    weight_v: Tensor | None = None,
    weight_s: Tensor | None = None,
    epsilon: float = EPSILON,
) -> tuple[Tensor, Tensor]:
    """Divide vectors and scalars by their joint root mean square; see :func:`inverse_rms`.

    Parameters
    ----------
    vectors, scalars
        ``(..., 4, C)`` and ``(..., S)``.
    weight_v, weight_s
        Gains ``(C,)`` and ``(S,)``; both or neither.
    epsilon
        Added to the mean square.
    """
    check_floor("epsilon", epsilon)
    v, s = SlimNorm(epsilon)(vectors, scalars, weight_v, weight_s)
    return v, s


__all__ = [
    "EPSILON",
    "VectorMatrices",
    "inverse_rms",
    "minkowski_product",
    "vector_heads",
    "vector_linear",
    "vector_rms_norm",
    "vectors_from_heads",
]
