"""Heads of several parts side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS

ROWS = 1 + NUM_VECTORS + NUM_BIVECTORS
"""Rows of pairs in a head."""


def joined(parts: tuple[Tensor, ...]) -> Tensor:
    """P tensors ``(T, H, D)`` as one ``(T, N, D)``: a view where they lie side by side."""
    first = parts[0]
    t, heads, d = first.shape
    n = heads * len(parts)
    strides, storage = (n * d, d, 1), first.untyped_storage().data_ptr()
    if all(
        x.stride() == strides
        and x.untyped_storage().data_ptr() == storage
        and x.storage_offset() == first.storage_offset() + i * heads * d
        for i, x in enumerate(parts)
    ):
        return first.as_strided((t, n, d), strides)
    return torch.stack(parts, dim=1).flatten(1, 2)
