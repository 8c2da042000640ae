"""From hidden states to attention heads, and back, each with its linear map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import Fused, Stage, Tensors
from lgatr.ops.heads.formula import sector_heads, sectors_from_heads
from lgatr.ops.linear.matrices import SectorMatrices
from lgatr.ops.linear.stage import Linear, SectorMap, stage_of
from lgatr.ops.norm.formula import EPSILON

_TO_HEADS = Operation(__package__, "to_heads", CPP, TRITON)
_FROM_HEADS = Operation(__package__, "from_heads", CPP, TRITON)


@dataclass(frozen=True, eq=False)
class ToHeads(Stage):
    """Linear map, norm of each head, signs of the inner product, flattening.

    Inputs are the state ``z (T, .)``, ``v (4, T, .)``, ``b (3, T, .)`` and those of the linear map,
    whose outputs are ordered by head; outputs are P tensors ``(T, H, D)``.

    Parameters
    ----------
    linear
        The linear map.
    heads, metric
        Number of heads, and for each part whether it gets the signs of the inner product.
    scalars
        Scalar channels per head.
    epsilon
        Floor of the mean squared norm; None leaves the heads as they are.
    """

    operation = _TO_HEADS
    needs_outputs = True
    linear: Linear
    heads: int
    metric: tuple[bool, ...]
    scalars: int
    epsilon: float | None

    @property
    def groups(self) -> int:
        """Heads of all parts, N."""
        return self.heads * len(self.metric)

    @property
    def signs(self) -> tuple[int, int]:
        """Heads of each part, and a bit for each part with the signs of the inner product."""
        return self.heads, sum(1 << part for part, flip in enumerate(self.metric) if flip)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        parts = len(self.metric), self.heads, -1
        y = Sectors(*(x.unflatten(-1, parts) for x in self.linear(*inputs)))
        return sector_heads(y, self.metric, self.epsilon is not None).unbind(-3)


@dataclass(frozen=True, eq=False)
class FromHeads(Stage):
    """Undo the flattening: heads ``(T, H, D)`` to z, v and b with channels ordered by head.

    Parameters
    ----------
    width
        Numbers of a row of pairs in a head, w.
    """

    operation = _FROM_HEADS
    width: int

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        (heads,) = inputs
        assert heads is not None
        return sectors_from_heads(heads, self.width // 2)


def _from_heads(width: int, linear: Linear) -> Fused:
    return Fused(FromHeads(width), linear, 1, "recomputed")


# Dynamo warns of cached functions.
_kept_to_heads, _kept_from_heads = lru_cache(256)(ToHeads), lru_cache(256)(_from_heads)


def project_to_heads(
    x: Sectors,
    matrices: SectorMap | SectorMatrices,
    heads: int,
    metric: tuple[bool, ...],
    scalars: int,
    normalise: bool = True,
) -> tuple[Tensor, ...]:
    """A linear map, then normalised heads: for each part ``(..., H, D)``; as one stage.

    Parameters
    ----------
    x
        The state.
    matrices
        A map whose outputs are ordered (part, head, channel).
    heads
        Number of heads H of each part.
    metric
        For each part whether it gets the signs of the inner product.
    scalars
        Scalar channels of a head.
    normalise
        If False, heads are only flattened.
    """
    linear, inputs = stage_of(matrices)
    make = ToHeads if torch.compiler.is_compiling() else _kept_to_heads
    stage = make(linear, heads, metric, scalars, EPSILON if normalise else None)
    if x.z.dim() == 2:
        return stage(*x, *inputs)
    leading = x.z.shape[:-1]
    # A single token without leading dimensions becomes a batch of one.
    z = x.z.flatten(0, -2) if leading else x.z.unsqueeze(0)
    v, b = (t.flatten(1, -2) if leading else t.unsqueeze(1) for t in (x.v, x.b))
    return tuple(out.view(*leading, *out.shape[1:]) for out in stage(z, v, b, *inputs))


def project_from_heads(
    x: Tensor, mv_channels: int, matrices: SectorMap | SectorMatrices
) -> Sectors:
    """A linear map of heads that are joined, as one stage.

    Parameters
    ----------
    x
        ``(..., T, H, D)``.
    mv_channels
        Multivector channels per head.
    matrices
        Of the map, for channels ordered by head.
    """
    linear, inputs = stage_of(matrices)
    make = _from_heads if torch.compiler.is_compiling() else _kept_from_heads
    stage = make(2 * mv_channels, linear)
    if x.dim() == 3:
        return Sectors(*stage(x, *inputs))
    leading = x.shape[:-2]
    z, v, b = stage(x.flatten(0, -3), *inputs)
    return Sectors(z.unflatten(0, leading), v.unflatten(1, leading), b.unflatten(1, leading))
