"""Masks given as tensors with one entry for each score."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.attention.masks.base import Mask
from lgatr.attention.positions import Positions


def entry(table: Tensor, at: Positions) -> Tensor:
    """Look up ``table``, which broadcasts to ``(events, heads, queries, keys)``."""
    if table.dim() > 4:
        raise ValueError(
            f"a dense mask of shape {tuple(table.shape)} combines with nothing else; flatten the "
            "batch dimensions into one"
        )
    index = (at.event, at.head, at.q, at.k)[4 - table.dim() :]
    zero = at.event * 0
    place = tuple(zero if n == 1 else i for n, i in zip(table.shape, index, strict=True))
    return table[place]


@dataclass(frozen=True, eq=False)
class DenseMask(Mask):
    """A boolean tensor, True where attention is allowed; for dense batches.

    Parameters
    ----------
    table
        Broadcasts to ``(events, heads, queries, keys)``.
    """

    table: Tensor
    feature = "mask"

    def allowed(self, at: Positions) -> Tensor:
        """See :meth:`Mask.allowed`."""
        return entry(self.table, at)
