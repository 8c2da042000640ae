"""Attention by backend, under the names of the reference library.

New code says ``backend=`` where it calls a network; see :mod:`lgatr.attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.primitives.attention import scaled_dot_product_attention

BACKEND_KWARGS: dict[str, tuple[str, ...]] = {"flex": ("block_mask", "score_mod")}
"""Keywords that only one backend takes."""

_OF_TORCH = {"attn_mask", "dropout_p", "is_causal", "scale"}


@cache
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
        ``backend`` names one; without it the other keywords decide, and for those of torch's own
        :func:`~torch.nn.functional.scaled_dot_product_attention` it is that function.
    """
    if kwargs.get("backend"):
        return attention_by(kwargs["backend"])
    given = {name for name, value in kwargs.items() if value is not None and name != "backend"}
    for backend, names in BACKEND_KWARGS.items():
        if given.intersection(names):
            return attention_by(backend)
    return F.scaled_dot_product_attention if given <= _OF_TORCH else attention_by("auto")


__all__ = ["BACKEND_KWARGS", "attention_by", "get_attention_backend"]
