"""Multivector attention, flattened into ordinary scaled dot-product attention.

Legend: T tokens, H heads, c multivector channels and cs scalar channels per head, G = 16 blades,
D = 16 c + cs head width.

The invariant inner product of multivectors is an ordinary dot product with signs. They go into
the queries, so any attention backend computes equivariant attention without knowing it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.algebra import INNER_SIGNS, PAIR_METRIC
from lgatr.attention import prepare_attention
from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors, constant
from lgatr.ops._runtime.stage import Then
from lgatr.ops.heads.from_heads import FromHeadsStage
from lgatr.ops.heads.stage import HeadsStage
from lgatr.primitives.linear import LINEAR, SectorMatrices, sector_linear
from lgatr.primitives.normalization import EPSILON, inverse_norm
from lgatr.utils.inputs import check_multivectors, check_real, check_scalars

# sector_heads multiplies the first vector row like the scalars, all later rows with the opposite.
assert PAIR_METRIC == (1, 1) + (-1,) * (len(PAIR_METRIC) - 2)


def sector_heads(x: Sectors, metric: tuple[bool, ...], normalise: bool = True) -> Tensor:
    """Normalise every head and flatten it for a dot-product attention backend.

    Parameters
    ----------
    x
        ``z (..., P, H, 2c + cs)``, ``v (4, ..., P, H, 2c)``, ``b (3, ..., P, H, 2c)`` with P
        parts such as queries, keys and values.
    metric
        For each part whether it gets the signs of the inner product.
    normalise
        If False, heads are only flattened.

    Returns
    -------
    ``(..., P, H, D)``; within a head: scalar pairs, scalars, vector pairs, bivector pairs.
    """
    c = x.mv_channels
    signs = [s for part in metric for s in [1.0] * c + [-1.0 if part else 1.0] * c]
    flipped = [s for part in metric for s in [-1.0 if part else 1.0] * c + [1.0] * c]
    factor = inverse_norm(x) if normalise else x.z.new_ones(())
    first, later = (
        factor * constant(tuple(table), factor.device, factor.dtype).view(-1, 1, 2 * c)
        for table in (signs, flipped)
    )
    parts = [x.z[..., : 2 * c] * first]
    if x.s_channels:
        s = x.scalars
        parts.append(F.layer_norm(s, s.shape[-1:]) if normalise else s)
    if torch.compiler.is_compiling():
        # One view instead of rows: inductor of torch 2.13 writes the stacked gradient of three
        # rows in place of an operand that it still reads.
        rows = [x.v[:1] * first, x.v[1:] * later, x.b * later]
        parts += [row.movedim(0, -2).flatten(-2) for row in rows]
    else:
        vectors = x.v.unbind(0)
        parts += [vectors[0] * first, *(row * later for row in (*vectors[1:], *x.b.unbind(0)))]
    return torch.cat(parts, dim=-1)


def sector_linear_heads(
    x: Sectors,
    matrices: SectorMatrices,
    heads: int,
    metric: tuple[bool, ...],
    s_channels: int,
    normalise: bool = True,
) -> tuple[Tensor, ...]:
    """A linear map, then :func:`sector_heads`, as one stage: for each part ``(..., H, D)``.

    Parameters
    ----------
    x
        The state.
    matrices
        Their output channels ordered (part, head, channel).
    heads
        Number of heads H.
    metric
        For each part whether it gets the signs of the inner product.
    s_channels
        Scalar channels of a head.
    normalise
        If False, heads are only flattened.
    """

    def formula(z: Tensor, v: Tensor, b: Tensor, *map: Any) -> tuple[Tensor, ...]:
        y = sector_linear(Sectors(z, v, b), SectorMatrices(*map))
        grouped = Sectors(*(t.unflatten(-1, (len(metric), heads, -1)) for t in y))
        return sector_heads(grouped, metric, normalise).unbind(-3)

    stage = HeadsStage(formula, heads, metric, s_channels, EPSILON if normalise else None)
    leading = x.z.shape[:-1]
    # A single token without leading dimensions becomes a batch of one.
    z = x.z.flatten(0, -2) if leading else x.z.unsqueeze(0)
    v, b = (t.flatten(1, -2) if leading else t.unsqueeze(1) for t in (x.v, x.b))
    outputs = stage(z, v, b, *matrices)
    return tuple(out.view(*leading, *out.shape[1:]) for out in outputs)


def split_heads(x: Tensor, mv_channels: int) -> Sectors:
    """Undo the flattening of heads ``(..., H, D)``: a state whose tokens are ``(..., H)``."""
    c2 = 2 * mv_channels
    rows = (NUM_VECTORS + NUM_BIVECTORS) * c2
    z, v, b = x.split([x.shape[-1] - rows, NUM_VECTORS * c2, NUM_BIVECTORS * c2], dim=-1)
    v, b = (t.unflatten(-1, (-1, c2)).movedim(-2, 0) for t in (v, b))
    return Sectors(z, v, b)


def sectors_from_heads(x: Tensor, mv_channels: int) -> Sectors:
    """Undo the flattening: ``(..., H, D)`` to sectors with channels ordered by head."""
    return Sectors(*(t.flatten(-2) for t in split_heads(x, mv_channels)))


def sector_linear_of_heads(x: Tensor, mv_channels: int, matrices: SectorMatrices) -> Sectors:
    """A linear map of :func:`sectors_from_heads`, as one stage.

    Parameters
    ----------
    x
        ``(..., T, H, D)``.
    mv_channels
        Multivector channels per head.
    matrices
        Of the map, for channels ordered by head.
    """
    leading = x.shape[:-2]
    formula = partial(_plain_sectors, mv_channels)
    stage = Then(FromHeadsStage(formula, 2 * mv_channels), LINEAR, count=1, middle="again")
    z, v, b = stage(x.flatten(0, -3), *matrices)
    return Sectors(z.unflatten(0, leading), v.unflatten(1, leading), b.unflatten(1, leading))


def _plain_sectors(mv_channels: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return sectors_from_heads(x, mv_channels)


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
