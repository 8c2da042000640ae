"""Functions of four-vector channels, for the slim networks.

Legend: T tokens, C vector channels, S scalar channels, P parts (queries, keys, values), H heads,
c and cs vector and scalar channels per head, D = 4 c + cs. Vectors are ``(..., 4, C)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.algebra import METRIC
from lgatr.layout import constant
from lgatr.ops._runtime.matmul import linear
from lgatr.ops.slim_glu.stage import SlimGLUOfLinear, SlimGLUStage
from lgatr.ops.slim_heads.stage import (
    SlimFromHeadsStage,
    SlimHeadsOfLinear,
    SlimHeadsStage,
    SlimLinearOfHeads,
)
from lgatr.ops.slim_linear.stage import SlimLinearStage
from lgatr.ops.slim_norm.stage import SlimNormStage
from lgatr.utils.autocast import full_precision, keeps_precision

EPSILON = 0.01


class VectorMatrices(NamedTuple):
    """A linear map: of vectors ``(O, I)``, of scalars ``(P, J)``, and the bias of the scalars.

    Without a matrix for them, scalars stay as they are.
    """

    v: Tensor
    s: Tensor | None
    bias: Tensor | None


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


_LINEAR = SlimLinearStage(vector_linear)


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
    stage = SlimNormStage(partial(_plain_norm, epsilon), epsilon)
    v, s = stage(vectors, scalars, weight_v, weight_s)
    return v, s


def _plain_norm(
    epsilon: float,
    vectors: Tensor,
    scalars: Tensor,
    weight_v: Tensor | None,
    weight_s: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The plain formula of :func:`vector_rms_norm`."""
    factor = inverse_rms(vectors, scalars, epsilon)
    if weight_v is None or weight_s is None:
        return vectors * factor.unsqueeze(-1), scalars * factor
    return vectors * (factor * weight_v).unsqueeze(-2), scalars * (factor * weight_s)


def vector_linear_heads(
    vectors: Tensor,
    scalars: Tensor,
    matrices: VectorMatrices,
    heads: int,
    metric: tuple[bool, ...],
) -> tuple[Tensor, ...]:
    """Queries, keys and values: a linear map, then :func:`vector_heads`, as one stage.

    Parameters
    ----------
    vectors, scalars
        ``(..., 4, I)`` and ``(..., J)``.
    matrices
        Their outputs ordered (part, head, channel).
    heads
        Number of heads H.
    metric
        For each part whether it gets the signs of the inner product.

    Returns
    -------
    A tensor ``(..., H, D)`` for each part.
    """

    def plain(v: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        v, s = (x.unflatten(-1, (len(metric), heads, -1)) for x in (v, s))
        return vector_heads(v, s, metric).unbind(-3)

    if matrices.s is None:
        return plain(*vector_linear(vectors, scalars, *matrices))
    groups = heads * len(metric)
    channels = len(matrices.v) // groups, len(matrices.s) // groups
    stage = SlimHeadsStage(plain, heads, metric, EPSILON, channels)
    return SlimHeadsOfLinear(_LINEAR, stage)(vectors, scalars, *matrices)


def heads_vector_linear(
    heads: Tensor, v_channels: int, matrices: VectorMatrices
) -> tuple[Tensor, Tensor]:
    """A linear map of heads ``(..., H, D)`` that are joined; see :func:`vectors_from_heads`.

    Parameters
    ----------
    heads
        ``(..., H, D)``.
    v_channels
        Vector channels of a head.
    matrices
        With one for the scalars.
    """

    def plain(x: Tensor) -> tuple[Tensor, Tensor]:
        return vectors_from_heads(x, v_channels)

    v, s = SlimLinearOfHeads(SlimFromHeadsStage(plain, v_channels), _LINEAR)(heads, *matrices)
    return v, s


def vector_glu(
    vectors: Tensor,
    scalars: Tensor,
    matrices: VectorMatrices,
    function_v: Callable[[Tensor], Tensor],
    function: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    r"""A gated linear unit, as one stage.

    One linear map makes vectors a, b, c and scalars s, t; the results are
    :math:`a\, f_v(\langle b, c\rangle / 2)` and :math:`s\, f(t)` (arXiv:2512.17011).

    Parameters
    ----------
    vectors, scalars
        ``(..., 4, I)`` and ``(..., J)``.
    matrices
        To ``3 O`` vector and ``2 P`` scalar channels.
    function_v, function
        :math:`f_v` and :math:`f`.
    """
    formula = partial(_plain_glu, function_v, function)
    if matrices.s is None:
        return formula(*vector_linear(vectors, scalars, *matrices))
    stage = SlimGLUStage(formula, function_v, function)
    v, s = SlimGLUOfLinear(_LINEAR, stage)(vectors, scalars, *matrices)
    return v, s


def _plain_glu(
    function_v: Callable[[Tensor], Tensor],
    function: Callable[[Tensor], Tensor],
    vectors: Tensor,
    scalars: Tensor,
) -> tuple[Tensor, Tensor]:
    """The plain formula of a gated linear unit, after its linear map."""
    value, left, right = vectors.chunk(3, dim=-1)
    gate = function_v(0.5 * minkowski_product(left, right))
    s, t = scalars.chunk(2, dim=-1)
    return value * gate.unsqueeze(-2), s * function(t)
