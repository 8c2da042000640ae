"""Attention to a part of the keys, with its log-sum-exp."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lgatr.attention.pattern.shapes import check_tensors
from lgatr.attention.prepare import prepare_attention


def partial_attention(q: Tensor, k: Tensor, v: Tensor, **pattern: Any) -> tuple[Tensor, Tensor]:
    """Attention to a part of the keys, with the log-sum-exp for merging it with other parts.

    Parameters
    ----------
    q
        ``(T, H, D)`` for packed batches, ``(..., items, H, D)`` for dense ones.
    k, v
        Likewise.
    **pattern
        See :func:`lgatr.attention.prepare_attention`; no ``cache``.

    Returns
    -------
    out
        Shaped like ``q``, with the width of ``v``.
    lse
        ``(T, H)`` or ``(..., items, H)``, at least in single precision: log-sum-exp of each
        query's scores; minus infinity where it has no key.
    """
    if pattern.get("cache") is not None:
        raise ValueError("partial attention takes no cache; give its keys as kv_packing")
    check_tensors(q, k, v)
    attend = prepare_attention(q.device, q.dtype, **pattern)
    lacking = "partial" not in attend.backend.capabilities.features
    if lacking and pattern.get("backend") in (None, "auto"):
        attend = prepare_attention(q.device, q.dtype, **pattern | {"backend": "native"})
    return attend.partial(q, k, v)
