"""Between the linear maps of slim networks and attention heads.

Legend: T tokens (any leading shape), P parts (queries, keys, values), H heads, N = P H, c and s
vector and scalar channels per head, D = 4 c + s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lgatr.ops._runtime import cpu as native
from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors, Then
from lgatr.ops.heads.rows import joined
from lgatr.ops.slim_linear.stage import SlimLinearStage


@dataclass(frozen=True, eq=False)
class SlimHeadsStage(Stage):
    r"""Norm of each head, signs of the inner product, flattening.

    Inputs are ``v (T, 4, N c)`` and ``s (T, N s)`` with channels ordered by head, outputs P tensors
    ``(T, H, D)``. With heads :math:`h = f x`, the gradient of x is :math:`f (g - \eta h (g \cdot h)
    / n)`, for which the inputs are not needed.

    Parameters
    ----------
    formula
        The plain formula.
    heads, metric
        Number of heads, and for each part whether it gets the signs of the inner product.
    epsilon
        Added to the mean square.
    channels
        Vector and scalar channels c and s of a head.
    """

    formula: Callable[..., Tensors]
    heads: int
    metric: tuple[bool, ...]
    epsilon: float
    channels: tuple[int, int]
    needs_outputs = True

    @property
    def _signs(self) -> tuple[int, int]:
        return self.heads, sum(1 << part for part, flip in enumerate(self.metric) if flip)

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return has_native_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        v, s = native.side_by_side(inputs)
        assert v is not None and s is not None
        groups, leading = self.heads * len(self.metric), s.shape[:-1]
        c, scalars = self.channels
        heads = v.new_empty(*leading, groups, 4 * c + scalars)
        factor = v.new_empty(*leading, groups)
        native.call(
            "slim_heads", v, v, s, heads, factor, leading.numel(), groups, c, scalars,
            float(self.epsilon), *self._signs,
        )  # fmt: skip
        return heads.unflatten(-2, (-1, self.heads)).unbind(-3), (factor,)

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        leading = outputs[0].shape[:-2]
        heads, grad = (
            joined(tuple(part.flatten(0, -3) for part in parts)) for parts in (outputs, grads)
        )
        tokens, groups, _ = heads.shape
        (factor,) = kept
        c, scalars = self.channels
        of_v = heads.new_empty(*leading, 4, groups * c)
        of_s = heads.new_empty(*leading, groups * scalars)
        native.call(
            "slim_heads_gradient", heads, heads, grad.contiguous(), factor, of_v, of_s,
            tokens, groups, c, scalars, *self._signs,
        )  # fmt: skip
        return of_v, of_s


class SlimHeadsOfLinear(Then):
    """A :class:`~lgatr.ops.slim_linear.stage.SlimLinearStage`, then a :class:`SlimHeadsStage`.

    Parameters
    ----------
    linear, heads
        The stages.
    """

    second_inputs: ClassVar[int] = 2

    def __init__(self, linear: SlimLinearStage, heads: SlimHeadsStage) -> None:
        super().__init__(linear, heads, count=5, middle="nothing")


@dataclass(frozen=True, eq=False)
class SlimFromHeadsStage(Stage):
    """Undo the flattening: heads ``(T, H, D)`` to ``(T, 4, H c)`` and ``(T, H s)``.

    Parameters
    ----------
    formula
        The plain formula.
    channels
        Vector channels c of a head.
    """

    formula: Callable[..., Tensors]
    channels: int

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return has_native_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    def _sizes(self, heads: Tensor) -> tuple[int, int, int, int]:
        tokens, groups, width = heads.shape[:-2].numel(), *heads.shape[-2:]
        return tokens, groups, self.channels, width - 4 * self.channels

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        (heads,) = native.side_by_side(inputs)
        assert heads is not None
        sizes = self._sizes(heads)
        _, groups, c, scalars = sizes
        v = heads.new_empty(*heads.shape[:-2], 4, groups * c)
        s = heads.new_empty(*heads.shape[:-2], groups * scalars)
        native.call("slim_from_heads", heads, heads, v, s, *sizes)
        return (v, s), ()

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        (heads,) = inputs
        assert heads is not None
        out = heads.new_empty(heads.shape)
        native.call("slim_to_heads", out, out, *native.side_by_side(grads), *self._sizes(out))
        return (out,)


class SlimLinearOfHeads(Then):
    """A :class:`SlimFromHeadsStage`, then a linear map.

    Parameters
    ----------
    heads, linear
        The stages.
    """

    second_inputs: ClassVar[int] = 2

    def __init__(self, heads: SlimFromHeadsStage, linear: SlimLinearStage) -> None:
        super().__init__(heads, linear, count=1, middle="again")
