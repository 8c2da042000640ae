"""Score modifications given as tensors with one entry for each score."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.attention.pattern.masks.dense import check_table, entry
from lgatr.attention.pattern.number_checks import check_real_table
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.scores.base import Bias
from lgatr.attention.pattern.shapes import Layout


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

    def __post_init__(self) -> None:
        check_real_table(self.table, "biases of scores", "(events, heads, queries, keys)")

    def check(self, layout: Layout) -> None:
        """One entry for each score."""
        check_table(self.table, layout)

    def bias(self, at: Positions) -> Tensor:
        return entry(self.table, at)
