"""Small inputs of attention, and what a call ends in."""

from __future__ import annotations

import torch

from lgatr.attention import (
    Packing,
    prepare_attention,
)

CPU = torch.device("cpu")

LENGTHS = (3, 2)

TOKENS = sum(LENGTHS)

Q = torch.randn(TOKENS, 2, 4, generator=torch.Generator().manual_seed(0))


def attend(packed=True, q=Q, k=Q, v=Q, **pattern):
    if packed:
        pattern.setdefault("packing", Packing.from_lengths(LENGTHS))
    return prepare_attention(CPU, torch.float32, **pattern)(q, k, v)
