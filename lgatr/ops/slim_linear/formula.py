"""Linear maps of four-vectors and scalars in plain torch."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lgatr.ops._runtime.matmul import linear
from lgatr.utils.autocast import full_precision, keeps_precision


class VectorMatrices(NamedTuple):
    """A linear map: of vectors ``(O, I)``, of scalars ``(P, J)``, and the bias of the scalars.

    Without a matrix for them, scalars stay as they are.
    """

    v: Tensor
    s: Tensor | None
    bias: Tensor | None


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
