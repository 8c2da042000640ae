"""Dropout of vectors and scalars."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.layers.slim.base import SlimModule
from lgatr.utils.arguments import check_probability


class SlimDropout(SlimModule):
    """Drop whole vectors, and scalars one by one.

    Parameters
    ----------
    dropout_prob
        Probability.
    """

    def __init__(self, dropout_prob: float) -> None:
        super().__init__()
        check_probability("dropout_prob", dropout_prob)
        self.p = dropout_prob

    def transform(self, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Drop from ``(..., 4, C)`` and ``(..., S)``."""
        if not self.training or self.p == 0.0:
            return vectors, scalars
        keep = F.dropout(torch.ones_like(vectors[..., :1, :]), self.p)
        return vectors * keep, F.dropout(scalars, self.p)
