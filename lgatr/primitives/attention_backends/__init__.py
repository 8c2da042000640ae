"""Attention by backend, under the names of the reference library.

New code says ``backend=`` where it calls a network; see :mod:`lgatr.attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lgatr.primitives.attention import scaled_dot_product_attention


def attention_by(backend: str) -> Callable[..., Tensor]:
    """A function that attends on one backend.

    It takes queries ``(..., heads, items, D)``, keys and values, a ``dtype`` to compute in, and
    the keywords of :func:`lgatr.attention.prepare_attention`.
    """

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dtype: torch.dtype | None = None,
        attn_bias: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        kwargs = {"backend": backend, "attn_bias": attn_bias, **kwargs}
        if dtype is None or dtype == query.dtype:
            return scaled_dot_product_attention(query, key, value, **kwargs)
        out = scaled_dot_product_attention(*(x.to(dtype) for x in (query, key, value)), **kwargs)
        return out.to(query.dtype)

    return attention


def get_attention_backend(**kwargs: Any) -> Callable[..., Tensor]:
    """The function that would run attention with these keywords.

    Parameters
    ----------
    **kwargs
        ``backend`` names one; without it the keywords of a call decide, as in
        :func:`lgatr.attention.prepare_attention`.
    """
    return attention_by(kwargs.get("backend") or "auto")


__all__ = ["attention_by", "get_attention_backend"]
