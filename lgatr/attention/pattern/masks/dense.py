"""Masks given as tensors with one entry for each score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.attention.pattern.masks.base import Mask
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.shapes import FOR_XFORMERS, Layout
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


def _broadcasts(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a tensor of this shape can be expanded to ``wanted``."""
    # Sizes are compared before 1 is: a traced program then stays one for all sizes.
    sizes = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(n == m or n == 1 for n, m in sizes)


def check_table(table: Tensor, layout: Layout) -> None:
    """Raise ``ValueError`` unless a table broadcasts to the scores of a dense batch."""
    if not layout.queries:
        return
    batch = (len(layout.queries),) if layout.batch is None else layout.batch
    scores = (layout.heads, layout.queries[0], layout.keys[0])
    # Events of several batch dimensions may be counted through.
    if any(_broadcasts(table.shape, (*b, *scores)) for b in ((math.prod(batch),), batch)):
        return
    raise ValueError(
        f"a tensor with an entry for each score broadcasts to (events, heads, queries, keys) = "
        f"{(*(batch or (1,)), *scores)}, not {tuple(table.shape)}; {FOR_XFORMERS}"
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
        return entry(self.table, at)
