"""Dropout of whole grades."""

from __future__ import annotations

from lgatr.layers.base import SectorModule
from lgatr.layout import Sectors
from lgatr.primitives.dropout import sector_dropout


class GradeDropout(SectorModule):
    """Drop each grade of each multivector, and each scalar, independently.

    Parameters
    ----------
    p
        Probability.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout probability must be in [0, 1], not {p}")
        self.p = p

    def forward_sectors(self, x: Sectors) -> Sectors:
        """See :class:`~lgatr.layers.base.SectorModule`."""
        return sector_dropout(x, self.p, self.training)
