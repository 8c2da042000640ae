"""Score modifications given as tensors with one entry for each score."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.attention.masks.dense import entry
from lgatr.attention.positions import Positions
from lgatr.attention.scores.base import Bias


@dataclass(frozen=True, eq=False)
class DenseBias(Bias):
    """A tensor with something to add to each score; for dense batches.

    Parameters
    ----------
    table
        Broadcasts to ``(events, heads, queries, keys)``.
    """

    table: Tensor
    feature = "mask"
    symmetry = "none"

    def bias(self, at: Positions) -> Tensor:
        """See :class:`Bias`."""
        return entry(self.table, at)
