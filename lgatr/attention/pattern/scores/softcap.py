"""Bounded scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.attention.pattern.number_checks import check_real_table, real_number
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.scores.base import ScoreMod
from lgatr.utils.described import described
from lgatr.utils.lengths import is_readable


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
        if isinstance(self.cap, Tensor):
            check_real_table(self.cap, "caps of SoftCap", "()")
            if self.cap.numel() != 1:
                raise ValueError(f"one cap serves all scores, not {described(self.cap)}")
        else:
            object.__setattr__(self, "cap", real_number(self.cap, "the cap of scores"))
        # Reading a tensor on a GPU would synchronise with it.
        known = not isinstance(self.cap, Tensor) or is_readable(self.cap)
        if known and not 0.0 < self.cap < math.inf:
            raise ValueError(f"the cap of scores is above zero, not {float(self.cap)}")

    def __call__(self, score: Tensor, at: Positions) -> Tensor:
        return self.cap * torch.tanh(score / self.cap)
