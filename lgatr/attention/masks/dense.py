"""Masks given as tensors with one entry for each score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.attention.masks.base import Mask
from lgatr.attention.positions import Positions
from lgatr.attention.shapes import FOR_XFORMERS, Layout
from lgatr.utils.inputs import check_dense, check_values


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


def check_table(table: Tensor, layout: Layout) -> None:
    """Raise ``ValueError`` unless a table broadcasts to the scores of a dense batch."""
    events = (len(layout.queries),)
    if not events[0]:
        return
    scores = (layout.heads, layout.queries[0], layout.keys[0])
    for batch in {events, layout.batch or ()}:
        try:
            if torch.broadcast_shapes(table.shape, (*batch, *scores)) == (*batch, *scores):
                return
        except RuntimeError:
            continue
    raise ValueError(
        f"a tensor with an entry for each score broadcasts to (events, heads, queries, keys) = "
        f"{(*(layout.batch or events), *scores)}, not {tuple(table.shape)}; {FOR_XFORMERS}"
    )


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

    def __post_init__(self) -> None:
        if not isinstance(self.table, Tensor) or self.table.dtype != torch.bool:
            kind = getattr(self.table, "dtype", type(self.table).__name__)
            raise ValueError(f"DenseMask takes a boolean tensor, True where allowed, not {kind}")
        check_dense("entries of DenseMask", self.table, "(events, heads, queries, keys)")
        check_values("entries of DenseMask", self.table)

    def check(self, layout: Layout) -> None:
        """One entry for each score."""
        check_table(self.table, layout)

    def allowed(self, at: Positions) -> Tensor:
        """See :meth:`Mask.allowed`."""
        return entry(self.table, at)
