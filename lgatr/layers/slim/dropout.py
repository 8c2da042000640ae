"""Dropout of vectors and scalars."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SlimDropout(nn.Module):
    """Drop whole vectors, and scalars one by one.

    Parameters
    ----------
    dropout_prob
        Probability.
    """

    representations = (("slim vector", "scalar"), ("slim vector", "scalar"))

    def __init__(self, dropout_prob: float) -> None:
        super().__init__()
        if not 0.0 <= dropout_prob <= 1.0:
            raise ValueError(f"dropout probability must be in [0, 1], not {dropout_prob}")
        self.p = dropout_prob

    def forward(self, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Drop from ``(..., 4, C)`` and ``(..., S)``."""
        if not self.training or self.p == 0.0:
            return vectors, scalars
        keep = F.dropout(torch.ones_like(vectors[..., :1, :]), self.p)
        return vectors * keep, F.dropout(scalars, self.p)
