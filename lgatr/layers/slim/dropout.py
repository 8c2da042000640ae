"""Dropout of vectors and scalars."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lgatr.layers.slim.base import SlimLayer
from lgatr.layout import SlimState
from lgatr.utils.arguments import check_probability


class SlimDropout(SlimLayer):
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

    def forward_hidden(self, x: SlimState) -> SlimState:
        """The layer on hidden states."""
        if not self.training or self.p == 0.0:
            return x
        keep = F.dropout(torch.ones_like(x.vectors[..., :1, :]), self.p)
        return SlimState(x.vectors * keep, F.dropout(x.scalars, self.p))
