"""The joint norm of four-vectors and scalars, in one pass forward and one backward.

Legend: T tokens (any leading shape), C vector channels, S scalar channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lgatr.ops._runtime import cpu as native
from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors


@dataclass(frozen=True, eq=False)
class SlimNormStage(Stage):
    r"""Inputs ``v (T, 4, C)``, ``s (T, S)``, the gain of each channel of both, or None.

    With :math:`y = f w x` and :math:`f = ((\sum_c |v_c^2| + \sum s^2) / n + \epsilon)^{-1/2}`, the
    gradient of x is :math:`f w g - f^3 \eta x (g \cdot w x) / n`, where :math:`2 \eta x` is the
    derivative of the sum.

    Parameters
    ----------
    formula
        The plain formula.
    epsilon
        Added to the mean square.
    """

    formula: Callable[..., Tensors]
    epsilon: float

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return has_native_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        v, s, weight_v, weight_s = native.side_by_side(inputs)
        assert v is not None and s is not None
        out_v, out_s, factor = v.new_empty(v.shape), s.new_empty(s.shape), s.new_empty(s.shape[:-1])
        native.call(
            "slim_norm", v, v, s, weight_v, weight_s, out_v, out_s, factor,
            factor.numel(), v.shape[-1], s.shape[-1], float(self.epsilon),
        )  # fmt: skip
        return (out_v, out_s), (factor,)

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        v, s, *weights = native.side_by_side(inputs)
        assert v is not None and s is not None
        sums = [None if w is None else w.new_zeros(native.PIECES, *w.shape) for w in weights]
        of_v, of_s = v.new_empty(v.shape), s.new_empty(s.shape)
        native.call(
            "slim_norm_gradients", v, v, s, *native.side_by_side(grads), *kept, *weights,
            of_v, of_s, *sums, kept[0].numel(), v.shape[-1], s.shape[-1], native.PIECES,
        )  # fmt: skip
        return of_v, of_s, *(None if total is None else total.sum(0) for total in sums)
