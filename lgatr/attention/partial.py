r"""Attention to parts of the keys, and the attention to all of them made from the parts.

The softmax over a union of keys is a weighted mean of the softmaxes over its parts, with weights
:math:`\exp(\mathrm{lse}_p)`, where :math:`\mathrm{lse}_p = \log\sum_{j \in p} \exp s_{ij}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.dispatch import prepare_attention


def partial_attention(q: Tensor, k: Tensor, v: Tensor, **pattern: Any) -> tuple[Tensor, Tensor]:
    """Attention to the keys at hand, with what is needed to merge it with others.

    Parameters
    ----------
    q
        ``(T, H, D)`` for packed batches, ``(..., items, H, D)`` for dense ones.
    k, v
        Likewise.
    **pattern
        See :func:`lgatr.attention.prepare_attention`.

    Returns
    -------
    out
        Shaped like ``q``.
    lse
        ``(..., T, H)``: log-sum-exp of each query's scores; minus infinity where it has no key.
    """
    return prepare_attention(q.device, q.dtype, **pattern).partial(q, k, v)


def merge_attentions(outputs: Sequence[Tensor], lses: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Merge attention to disjoint sets of keys.

    Parameters
    ----------
    outputs
        ``(..., H, D)`` each.
    lses
        ``(..., H)`` each.

    Returns
    -------
    out
        Attention to all keys, ``(..., H, D)``.
    lse
        Their log-sum-exp, ``(..., H)``.

    Raises
    ------
    ValueError
        If there are no parts, or not one log-sum-exp for each.
    """
    if not outputs or len(outputs) != len(lses):
        raise ValueError(f"{len(outputs)} outputs and {len(lses)} log-sum-exps cannot be merged")
    stacked = torch.stack(list(lses))
    total = stacked.logsumexp(0)
    # A query without any key has weights exp(-inf + inf); it stays zero.
    weights = torch.exp(stacked - total.masked_fill(torch.isinf(total), 0.0)).unsqueeze(-1)
    parts = (w * out.to(w.dtype) for w, out in zip(weights, outputs, strict=True))
    return torch.stack(list(parts)).sum(0).to(outputs[0].dtype), total
