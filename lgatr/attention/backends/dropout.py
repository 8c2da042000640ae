"""Attention dropout by a hash of seed and position, the same on every backend."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.attention.pattern.positions import Positions
from lgatr.ops._runtime.stage import needs_plain_formula

_MASK = 0xFFFFFFFF


def draw_seed() -> int | Tensor:
    """A seed from torch's default CPU generator, without synchronising with a GPU.

    Inside transformations of :mod:`torch.func` it is a tensor: ``vmap`` with
    ``randomness="different"`` has a seed for each of its samples.
    """
    seed = torch.randint(0, 2**31 - 1, ())
    return seed if needs_plain_formula() else int(seed)


def _hash(x: Tensor) -> Tensor:
    # The finaliser of MurmurHash3: every bit of the input changes half of the output's bits.
    x = x & _MASK
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _MASK
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _MASK
    return x ^ (x >> 16)


def drop_threshold(probability: float) -> int:
    """Threshold of :func:`keep_mask` that drops weights with ``probability``."""
    return int(probability * 2**32)


def keep_mask(seed: int | Tensor, at: Positions, threshold: int | Tensor) -> Tensor:
    """Which attention weights are kept.

    Parameters
    ----------
    seed
        Whole number.
    at
        Where the scores stand.
    threshold
        See :func:`drop_threshold`.

    Returns
    -------
    Boolean, broadcasting to ``(events, heads, queries, keys)``.
    """
    query = _hash(_hash(at.head.long() + seed) + at.q_token)
    return _hash(query ^ (at.k_token * 0x9E3779B1)) >= threshold
