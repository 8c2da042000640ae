"""Four-vectors and scalars to attention heads and back, each with its linear map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lgatr.ops._runtime.choice import CPP, Operation
from lgatr.ops._runtime.stage import Fused, Stage, Tensors
from lgatr.ops.slim_heads.formula import vector_heads, vectors_from_heads
from lgatr.ops.slim_linear.formula import VectorMatrices, vector_linear
from lgatr.ops.slim_linear.stage import SLIM_LINEAR
from lgatr.ops.slim_norm.formula import EPSILON


@dataclass(frozen=True, eq=False)
class SlimToHeads(Stage):
    """Norm of each head, signs of the inner product, flattening.

    Inputs are ``v (T, 4, N c)`` and ``s (T, N s)`` with channels ordered by head, outputs P tensors
    ``(T, H, D)``.

    Parameters
    ----------
    heads, metric
        Number of heads, and for each part whether it gets the signs of the inner product.
    epsilon
        Added to the mean square.
    channels
        Vector and scalar channels c and s of a head.
    """

    operation = Operation(__package__, "slim_to_heads", CPP)
    needs_outputs = True
    heads: int
    metric: tuple[bool, ...]
    epsilon: float
    channels: tuple[int, int]

    @property
    def signs(self) -> tuple[int, int]:
        """Heads of each part, and a bit for each part with the signs of the inner product."""
        return self.heads, sum(1 << part for part, flip in enumerate(self.metric) if flip)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        v, s = inputs
        assert v is not None and s is not None
        return _by_formula(v, s, self.heads, self.metric)


@dataclass(frozen=True, eq=False)
class SlimFromHeads(Stage):
    """Undo the flattening: heads ``(T, H, D)`` to ``(T, 4, H c)`` and ``(T, H s)``.

    Parameters
    ----------
    channels
        Vector channels c of a head.
    """

    operation = Operation(__package__, "slim_from_heads", CPP)
    channels: int

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        (heads,) = inputs
        assert heads is not None
        return vectors_from_heads(heads, self.channels)


def _by_formula(v: Tensor, s: Tensor, heads: int, metric: tuple[bool, ...]) -> Tensors:
    v, s = (x.unflatten(-1, (len(metric), heads, -1)) for x in (v, s))
    return vector_heads(v, s, metric).unbind(-3)


def _to_heads(heads: int, metric: tuple[bool, ...], channels: tuple[int, int]) -> Fused:
    stage = SlimToHeads(heads, metric, EPSILON, channels)
    return Fused(SLIM_LINEAR, stage, 5, "unused", between=2)


def _from_heads(channels: int) -> Fused:
    return Fused(SlimFromHeads(channels), SLIM_LINEAR, 1, "recomputed", between=2)


# Dynamo warns of cached functions.
_kept_to_heads, _kept_from_heads = lru_cache(64)(_to_heads), lru_cache(64)(_from_heads)


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
    if matrices.s is None:
        return _by_formula(*vector_linear(vectors, scalars, *matrices), heads, metric)
    groups = heads * len(metric)
    channels = len(matrices.v) // groups, len(matrices.s) // groups
    make = _to_heads if torch.compiler.is_compiling() else _kept_to_heads
    return make(heads, metric, channels)(vectors, scalars, *matrices)


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
    make = _from_heads if torch.compiler.is_compiling() else _kept_from_heads
    v, s = make(v_channels)(heads, *matrices)
    return v, s
