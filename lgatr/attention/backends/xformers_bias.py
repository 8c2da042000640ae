"""Masks and biases of dense batches as xFormers takes them: one tensor, with padded storage."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.attention.pattern.number_formats import in_format
from lgatr.attention.pattern.scores import DenseBias
from lgatr.attention.pattern.spec import AttentionSpec

WIDTH_STEP = 8
"""Kernels of xFormers want rows, and heads, of a multiple of so many numbers."""


def has_wider_bias(spec: AttentionSpec, dtype: torch.dtype) -> bool:
    """Whether a bias has another format than the queries, in which it would lose digits."""
    return isinstance(spec.score, DenseBias) and spec.score.table.dtype != dtype


def dense_bias(mask: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """What is added to the scores, ``(B, H, T, U)`` in the format of the queries.

    Parameters
    ----------
    mask
        True where attention is allowed, or numbers; broadcasts to the result.
    q, k
        Queries ``(B, T, H, D)`` and keys ``(B, U, H, D)``.
    """
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
    shape = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    # Pad the storage, keep the shape.
    width = -(-shape[-1] // WIDTH_STEP) * WIDTH_STEP
    storage = q.new_zeros(*shape[:-1], width)
    storage[..., : shape[-1]] = in_format(mask, q.dtype).expand(shape)
    return storage[..., : shape[-1]]
