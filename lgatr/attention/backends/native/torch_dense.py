"""Torch's own attention of dense batches, with masks and biases of every format.

Legend: H heads, T queries, U keys, D head width.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from lgatr.attention.backends.native.empty_rows import open_empty_rows
from lgatr.attention.pattern.number_formats import format_of_scores, in_format
from lgatr.ops._runtime.stage import needs_plain_formula


def attention_by_torch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attention on ``(..., H, T, D)``, ``(..., H, U, D)``; zeros for queries that see no key.

    Parameters
    ----------
    q, k, v
        Queries, keys and values, with heads before items.
    table
        What broadcasts to ``(..., H, T, U)``: True where attention is allowed, or numbers to add.
        Numbers in another format than the queries are added in float32 at least.
    causal, dropout, scale
        As torch has them.
    """
    dtype = v.dtype
    empty: Tensor | None = None
    if table is not None:
        if table.dtype not in (torch.bool, q.dtype):
            wide = format_of_scores(q.dtype)
            q, k, v, table = q.to(wide), k.to(wide), v.to(wide), in_format(table, wide)
        table, empty = open_empty_rows(table)
    # Fused kernels have no forward derivatives, and no second ones.
    with sdpa_kernel(SDPBackend.MATH) if needs_plain_formula() else nullcontext():
        out = F.scaled_dot_product_attention(
            q, k, v, table, dropout_p=dropout, is_causal=causal, scale=scale
        )
    out = out.to(dtype)
    return out if empty is None else out.masked_fill(empty, 0.0)
