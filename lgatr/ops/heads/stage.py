"""From hidden states to attention heads, and back, each with its linear map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import Fused, Stage, Tensors
from lgatr.ops.heads.formula import sector_heads, sectors_from_heads
from lgatr.ops.linear.stage import Linear


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

    operation = Operation(__package__, "to_heads", CPP, TRITON)
    needs_outputs = True
    linear: Linear
    heads: int
    metric: tuple[bool, ...]
    scalars: int
    epsilon: float | None

    @cached_property
    def groups(self) -> int:
        """Heads of all parts, N."""
        return self.heads * len(self.metric)

    @cached_property
    def signs(self) -> tuple[int, int]:
        """Heads of each part, and a bit for each part with the signs of the inner product."""
        return self.heads, sum(1 << part for part, flip in enumerate(self.metric) if flip)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        parts = len(self.metric), self.heads, -1
        y = Sectors(*(x.unflatten(-1, parts) for x in self.linear(*inputs)))
        return sector_heads(y, self.metric, self.epsilon).unbind(-3)


@dataclass(frozen=True, eq=False)
class FromHeads(Stage):
    """Undo the flattening: heads ``(T, H, D)`` to z, v and b with channels ordered by head.

    Parameters
    ----------
    width
        Numbers of a row of pairs in a head, w.
    """

    operation = Operation(__package__, "from_heads", CPP, TRITON)
    width: int

    def plain(self, *inputs: Tensor | None) -> Tensors:
        (heads,) = inputs
        assert heads is not None
        return sectors_from_heads(heads, self.width // 2)


class LinearOfHeads(Fused):
    """A linear map of heads that are joined.

    On CUDA it reads the heads, and writes their gradients, where they lie.

    Parameters
    ----------
    mv_channels
        Multivector channels per head.
    linear
        The map, of channels ordered by head.
    """

    operation = Operation(__package__, "linear_of_heads", TRITON, otherwise="from_heads, linear")

    def __init__(self, mv_channels: int, linear: Linear) -> None:
        self.from_heads, self.linear = FromHeads(2 * mv_channels), linear
        super().__init__(self.from_heads, linear, count=1, intermediate="recomputed")


def of_rows(stage: Stage, x: Sectors, *inputs: Tensor | None) -> Tensors:
    """A :class:`ToHeads` of a state ``(..., T, .)`` with any leading dimensions."""
    leading = x.z.shape[:-1]
    # A single token without leading dimensions becomes a batch of one.
    z = x.z.flatten(0, -2) if leading else x.z.unsqueeze(0)
    v, b = (t.flatten(1, -2) if leading else t.unsqueeze(1) for t in (x.v, x.b))
    return tuple(out.view(*leading, *out.shape[1:]) for out in stage(z, v, b, *inputs))


def of_head_rows(stage: Stage, heads: Tensor, *inputs: Tensor | None) -> Tensors:
    """A :class:`LinearOfHeads` of heads ``(..., T, H, D)`` with any leading dimensions."""
    leading = heads.shape[:-2]
    z, v, b = stage(heads.flatten(0, -3), *inputs)
    return z.unflatten(0, leading), v.unflatten(1, leading), b.unflatten(1, leading)
