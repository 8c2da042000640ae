"""Bounded scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.attention.positions import Positions
from lgatr.attention.scores.base import ScoreMod


@dataclass(frozen=True)
class SoftCap(ScoreMod):
    r""":math:`c \tanh(s_{ij} / c)` (arXiv:2408.00118).

    Parameters
    ----------
    cap
        c, above zero.
    """

    cap: float
    feature = "softcap"

    def __post_init__(self) -> None:
        if not (isinstance(self.cap, (float, int, Tensor)) and 0.0 < self.cap < math.inf):
            raise ValueError(f"the cap of scores is above zero, not {self.cap}")

    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        """See :class:`ScoreMod`."""
        return self.cap * torch.tanh(score / self.cap)
