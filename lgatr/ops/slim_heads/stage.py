"""Four-vectors and scalars to attention heads and back, each with its linear map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import Fused, Stage, Tensors
from lgatr.ops.slim_heads.formula import vector_heads, vectors_from_heads
from lgatr.ops.slim_linear.stage import SLIM_LINEAR_STAGE


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

    operation = Operation(__package__, "slim_to_heads", CPP, TRITON)
    needs_outputs = True
    heads: int
    metric: tuple[bool, ...]
    epsilon: float
    channels: tuple[int, int]

    @cached_property
    def signs(self) -> tuple[int, int]:
        """Heads of each part, and a bit for each part with the signs of the inner product."""
        return self.heads, sum(1 << part for part, flip in enumerate(self.metric) if flip)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        parts = len(self.metric), self.heads, -1
        v, s = (x.unflatten(-1, parts) for x in inputs if x is not None)
        return vector_heads(v, s, self.metric, self.epsilon).unbind(-3)


@dataclass(frozen=True, eq=False)
class SlimFromHeads(Stage):
    """Undo the flattening: heads ``(T, H, D)`` to ``(T, 4, H c)`` and ``(T, H s)``.

    Parameters
    ----------
    channels
        Vector channels c of a head.
    """

    operation = Operation(__package__, "slim_from_heads", CPP, TRITON)
    channels: int

    def plain(self, *inputs: Tensor | None) -> Tensors:
        (heads,) = inputs
        assert heads is not None
        return vectors_from_heads(heads, self.channels)


def linear_to_heads(
    heads: int, metric: tuple[bool, ...], channels: tuple[int, int], epsilon: float
) -> Fused:
    """A linear map, then :class:`SlimToHeads`, as one stage.

    Its inputs are vectors, scalars, and :class:`~lgatr.ops.slim_linear.formula.VectorMatrices` with
    outputs ordered (part, head, channel).
    """
    to_heads = SlimToHeads(heads, metric, epsilon, channels)
    return Fused(SLIM_LINEAR_STAGE, to_heads, 5, "unused", between=2)


def linear_of_heads(channels: int) -> Fused:
    """A linear map of heads that are joined, of so many vector channels each, as one stage.

    Its inputs are the heads ``(..., H, D)`` and matrices, with one for the scalars.
    """
    return Fused(SlimFromHeads(channels), SLIM_LINEAR_STAGE, 1, "recomputed", between=2)
