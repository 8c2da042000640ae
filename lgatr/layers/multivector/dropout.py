"""Dropout of whole grades."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lgatr.layers.multivector.base import PointwiseLayer
from lgatr.layout import Sectors
from lgatr.primitives.dropout import sector_dropout
from lgatr.utils.arguments import check_probability


class GradeDropout(PointwiseLayer):
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

    def forward_hidden(self, x: Sectors) -> Sectors:
        """The layer on hidden states."""
        return sector_dropout(x, self.p, self.training)

    def forward_scalars(self, scalars: Tensor) -> Tensor:
        """The layer on scalars ``(..., S)`` alone."""
        return F.dropout(scalars, self.p, self.training)
