"""Multivector attention, flattened into ordinary scaled dot-product attention.

Legend: T tokens, H heads, c multivector channels and cs scalar channels per head, G = 16 blades,
D = 16 c + cs head width.

The invariant inner product of multivectors is an ordinary dot product with signs. They go into
the queries, so any attention backend computes equivariant attention without knowing it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lgatr.algebra import INNER_SIGNS
from lgatr.attention import prepare_attention
from lgatr.layout import constant
from lgatr.utils.inputs import check_multivectors, check_real, check_scalars


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, **attn_kwargs: Any
) -> Tensor:
    """Scaled dot-product attention on any backend.

    Parameters
    ----------
    query
        ``(..., heads, items_out, D)`` or ``(items_out, D)``.
    key, value
        ``(..., heads or 1, items_in, D)``.
    **attn_kwargs
        See :func:`lgatr.attention.prepare_attention`.

    Returns
    -------
    Tensor shaped like ``query``, with the width of ``value``.
    """
    _check_heads(query, key, value)
    attention = prepare_attention(query.device, query.dtype, **attn_kwargs)
    single = query.dim() == 2
    if single:
        query, key, value = (x.unsqueeze(0) for x in (query, key, value))
    query, key, value = (x.transpose(-3, -2) for x in (query, key, value))
    packed = attention.spec.packing is not None and query.dim() == 4
    if packed:
        if query.shape[0] != 1:
            raise ValueError("packed attention takes one sequence; flatten the batch dimension")
        query, key, value = (x.squeeze(0) for x in (query, key, value))
    out = attention(query, key, value)
    out = (out.unsqueeze(0) if packed else out).transpose(-3, -2)
    return out.squeeze(0) if single else out


def _check_heads(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless these are queries, keys and values."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        shape = "(..., heads, items, D)"
        check_real(name, x, shape, like=None if name == "query" else query)
        if x.dim() < 2 or x.dim() != query.dim():
            raise ValueError(
                f"{name} has shape {tuple(x.shape)} and query {tuple(query.shape)}; all three are "
                f"{shape}, or (items, D)"
            )
    shapes = ", ".join(str(tuple(x.shape)) for x in (query, key, value))
    if key.shape[:-1] != value.shape[:-1] or query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"query, key and value have shapes {shapes}; keys are as wide as queries, and there "
            "is one value for each key"
        )
    for n, m in zip(query.shape[:-3], key.shape[:-3], strict=True):
        if n != m and 1 not in (n, m):
            raise ValueError(
                f"query, key and value have shapes {shapes}; leading dimensions must be equal or 1"
            )


def sdp_attention(
    q_mv: Tensor,
    k_mv: Tensor,
    v_mv: Tensor,
    q_s: Tensor | None = None,
    k_s: Tensor | None = None,
    v_s: Tensor | None = None,
    **attn_kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    r"""Equivariant attention between multivectors, with optional scalars.

    :math:`A_{ij} = \mathrm{softmax}_j\,[(\sum_c \langle q_{ic}, k_{jc}\rangle
    + \sum_c q^s_{ic} k^s_{jc}) / \sqrt{16\,c + c_s}]` (arXiv:2405.14806, equation 7).

    Parameters
    ----------
    q_mv, k_mv, v_mv
        ``(..., heads, items, c, 16)``.
    q_s, k_s, v_s
        ``(..., heads, items, cs)``, all three or none.
    **attn_kwargs
        See :func:`lgatr.attention.prepare_attention`.

    Returns
    -------
    outputs_mv
        ``(..., heads, items, c, 16)``.
    outputs_s
        ``(..., heads, items, cs)``, or None.
    """
    for name, mv in (("q_mv", q_mv), ("k_mv", k_mv), ("v_mv", v_mv)):
        check_multivectors(name, mv, like=None if mv is q_mv else q_mv, items=True)
    scalars = (q_s, k_s, v_s)
    if any(s is None for s in scalars) and any(s is not None for s in scalars):
        raise ValueError("give scalar queries, keys and values, or none of them")
    for name, s, mv in (("q_s", q_s, q_mv), ("k_s", k_s, k_mv), ("v_s", v_s, v_mv)):
        check_scalars(name, s, None, like=q_mv, beside=(name.replace("_s", "_mv"), mv))
    q_mv = q_mv * constant(INNER_SIGNS, q_mv.device, q_mv.dtype)
    flat = [
        mv.flatten(-2) if s is None else torch.cat([mv.flatten(-2), s], dim=-1)
        for mv, s in zip((q_mv, k_mv, v_mv), scalars, strict=True)
    ]
    out = scaled_dot_product_attention(*flat, **attn_kwargs)
    width = v_mv.shape[-2] * v_mv.shape[-1]
    outputs_mv = out[..., :width].unflatten(-1, v_mv.shape[-2:])
    return outputs_mv, None if v_s is None else out[..., width:]
