"""From attention heads back to hidden states.

Legend: T tokens, H heads, w numbers of a row of pairs in a head, D numbers of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lgatr.layout import NUM_VECTORS, Sectors, flat
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors
from lgatr.ops._runtime.triton import has_triton_kernels
from lgatr.ops.heads.rows import ROWS, copy_short, fused_kernels, present


@dataclass(frozen=True, eq=False)
class FromHeadsStage(Stage):
    """Undo the flattening: heads ``(T, H, D)`` to z, v and b with channels ordered by head.

    Parameters
    ----------
    formula
        The plain formula.
    width
        Numbers of a row of pairs in a head.
    """

    formula: Callable[..., Tensors]
    width: int

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return super().runs_on(x) or has_triton_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        (heads,) = present(inputs)
        t, n, d = heads.shape
        split = d - (ROWS - 1) * self.width
        kernels = self._kernels(heads)
        if kernels is not None:
            place = self._room(heads)
            kernels.unpack(heads.contiguous(), place)
            return tuple(place), ()
        rows = heads[..., split:].unflatten(-1, (-1, self.width)).movedim(-2, 0)
        rows = rows.contiguous().flatten(2)
        z = heads[..., :split].reshape(t, n * split)
        return (z, rows[:NUM_VECTORS], rows[NUM_VECTORS:]), ()

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        (heads,) = present(inputs)
        n, out, start = heads.shape[1], heads.new_empty(heads.shape), 0
        kernels = self._kernels(heads)
        if kernels is not None:
            kernels.pack(flat(Sectors(*grads)), out)
            return (out,)
        for row in (grads[0], *grads[1], *grads[2]):
            width = row.shape[-1] // n
            copy_short(row.unflatten(-1, (n, width)), out[..., start : start + width])
            start += width
        return (out,)

    def _room(self, heads: Tensor) -> Sectors:
        t, n, d = heads.shape
        rows = heads.new_empty(ROWS - 1, t, n * self.width)
        z = heads.new_empty(t, n * (d - (ROWS - 1) * self.width))
        return Sectors(z, rows[:NUM_VECTORS], rows[NUM_VECTORS:])

    def _kernels(self, heads: Tensor) -> Any:
        kernels = fused_kernels(heads)
        sizes = heads.shape[1], self.width, heads.shape[2] - ROWS * self.width
        return None if kernels is None else kernels(*sizes)
