"""Dropout of whole grades."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lgatr.layers.multivector.base import PointwiseModule
from lgatr.layout import Sectors
from lgatr.primitives.dropout import sector_dropout
from lgatr.utils.arguments import check_probability


class GradeDropout(PointwiseModule):
    """Drop each grade of each multivector, and each scalar, independently.

    Parameters
    ----------
    p
        Probability.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        check_probability("dropout probability", p)
        self.p = p

    def forward_sectors(self, x: Sectors) -> Sectors:
        """See :class:`~lgatr.layers.multivector.base.SectorModule`."""
        return sector_dropout(x, self.p, self.training)

    def forward_scalars(self, scalars: Tensor) -> Tensor:
        """See :class:`~lgatr.layers.multivector.base.PointwiseModule`."""
        return F.dropout(scalars, self.p, self.training)
