"""Numbers that are added to scores, in other formats."""

from __future__ import annotations

import torch
from torch import Tensor


def format_of_scores(dtype: torch.dtype) -> torch.dtype:
    """The format in which scores of queries in ``dtype`` are changed: float32 at least.

    In 16 bits a bias near 100 would be off by up to a quarter.
    """
    return torch.promote_types(dtype, torch.float32)


def in_format(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """A bias in another format, in which none of its finite numbers becomes infinite.

    The lowest number of float32 stands for "never" in many masks, but a row of nothing else is a
    mean over its keys; of minus infinities, it is empty.
    """
    if bias.dtype == dtype:
        return bias
    limits = torch.finfo(dtype)
    if limits.max >= torch.finfo(bias.dtype).max:
        return bias.to(dtype)
    finite = bias.clamp(limits.min, limits.max).to(dtype)
    return torch.where(bias.isinf(), bias.to(dtype), finite)
