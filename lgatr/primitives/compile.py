"""Kept for user code of the reference library."""

from __future__ import annotations

import torch

from lgatr.algebra import INNER_SIGNS, PAIR_BLADES, PAIR_SIGNS
from lgatr.layout import constant


def warmup_caches(device: torch.device | str, dtype: torch.dtype = torch.float32) -> None:
    """Put the tables of the algebra on a device before they are first used.

    Parameters
    ----------
    device
        Where the networks will run.
    dtype
        Their number format.
    """
    device = torch.device(device)
    constant(PAIR_BLADES, device, torch.int64)
    for table in (PAIR_SIGNS, INNER_SIGNS):
        constant(table, device, dtype)
