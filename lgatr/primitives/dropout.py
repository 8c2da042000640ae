"""Dropout that keeps equivariance: whole grades are dropped together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.algebra import GRADES, NUM_GRADES
from lgatr.layout import Sectors, constant
from lgatr.utils.arguments import check_probability
from lgatr.utils.inputs import check_multivectors


def grade_dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Drop each grade of each multivector with probability ``p`` and rescale the others.

    Parameters
    ----------
    x
        Multivectors ``(..., 16)``.
    p
        Probability, 0 to 1.
    training
        If False, return ``x``.
    """
    check_multivectors("x", x, pointwise=True)
    check_probability("p", p)
    if not training or p == 0.0:
        return x
    keep = F.dropout(x.new_ones(*x.shape[:-1], NUM_GRADES), p)
    return x * keep.index_select(-1, constant(GRADES, x.device, torch.int64))


def sector_dropout(x: Sectors, p: float, training: bool = True) -> Sectors:
    """Grade-wise dropout on the multivectors of a state, ordinary dropout on its scalars."""
    if not training or p == 0.0:
        return x
    c = x.mv_channels
    vectors = F.dropout(torch.ones_like(x.v[0]), p)
    bivectors = F.dropout(torch.ones_like(x.b[0, ..., :c]), p)
    return Sectors(
        F.dropout(x.z, p), x.v * vectors, x.b * torch.cat([bivectors, bivectors], dim=-1)
    )
