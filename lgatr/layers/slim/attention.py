"""Attention between vectors and scalars."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.multivector.heads import Attend
from lgatr.layers.slim.base import check_hidden
from lgatr.layers.slim.dropout import SlimDropout
from lgatr.layers.slim.linear import SlimLinear
from lgatr.layers.slim.norm import SlimRMSNorm
from lgatr.primitives.vectors import heads_vector_linear, vector_linear_heads, vectors_from_heads
from lgatr.utils.arguments import check_counts


def _head_channels(v_channels: int, s_channels: int, ratio: int, heads: int) -> tuple[int, int]:
    check_counts(1, num_heads=heads, attn_ratio=ratio)
    check_counts(0, v_channels=v_channels, s_channels=s_channels)
    vectors = max(v_channels * ratio // heads, 1)
    return vectors, max(s_channels * ratio // heads, 4)


def _project(
    linear: SlimLinear, vectors: Tensor, scalars: Tensor, heads: int, metric: tuple[bool, ...]
) -> tuple[Tensor, ...]:
    """Normalised heads ``(..., H, D)`` of each part."""
    return vector_linear_heads(vectors, scalars, linear.by_head(len(metric), heads), heads, metric)


class _Join(nn.Module):
    """What both kinds of attention share: the linear map of the joined heads, and dropout."""

    linear_out: SlimLinear
    v_per_head: int
    dropout: SlimDropout | None

    def join(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors ``(..., T, 4, C)`` and scalars from heads ``(..., T, H, D)``."""
        linear = self.linear_out
        if linear.linear_s is None:
            out = linear.transform(*vectors_from_heads(heads, self.v_per_head))
        else:
            out = heads_vector_linear(heads, self.v_per_head, linear.matrices)
        return out if self.dropout is None else self.dropout.transform(*out)


class SlimSelfAttention(_Join):
    """Queries, keys and values, attention, and a linear map of the joined heads.

    Parameters
    ----------
    v_channels, s_channels
        Channels, in and out.
    num_heads
        Number of heads.
    attn_ratio
        Factor between channels and the sum of head channels.
    dropout_prob
        Dropout probability of the output, or None.
    qkv_bias
        Whether queries, keys and values have biases, as they had in lgatr 1.x.
    """

    representations = (("slim vector", "scalar"), ("slim vector", "scalar"))

    def __init__(
        self,
        v_channels: int,
        s_channels: int,
        num_heads: int,
        attn_ratio: int = 1,
        dropout_prob: float | None = None,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        v, s = _head_channels(v_channels, s_channels, attn_ratio, num_heads)
        self.heads, self.v_per_head = num_heads, v
        total_v, total_s = num_heads * v, num_heads * s
        self.linear_in = SlimLinear(v_channels, 3 * total_v, s_channels, 3 * total_s, qkv_bias)
        self.linear_out = SlimLinear(
            total_v, v_channels, total_s, s_channels, initialization="small"
        )
        self.norm = SlimRMSNorm(v, s, elementwise_affine=False)
        self.dropout = None if dropout_prob is None else SlimDropout(dropout_prob)

    def attend(self, vectors: Tensor, scalars: Tensor, attend: Attend) -> tuple[Tensor, Tensor]:
        """The layer with prepared attention."""
        metric = (True, False, False)
        q, k, v = _project(self.linear_in, vectors, scalars, self.heads, metric)
        return self.join(attend(q, k, v))

    def forward(
        self, vectors: Tensor, scalars: Tensor, **attn_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Attend between tokens.

        Parameters
        ----------
        vectors
            ``(..., T, 4, C)``.
        scalars
            ``(..., T, S)``.
        **attn_kwargs
            See :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Tensors of the same shapes.
        """
        first = self.linear_in
        channels = first.in_v_channels, first.in_s_channels
        check_hidden(vectors, scalars, *channels, first.weight_v, items=True)
        attend = prepare_attention(vectors.device, vectors.dtype, **attn_kwargs)
        return self.attend(vectors, scalars, attend)


class SlimCrossAttention(_Join):
    """Queries from one set of tokens, keys and values from another.

    Parameters
    ----------
    q_v_channels, q_s_channels
        Channels that queries are made of, and of the result.
    kv_v_channels, kv_s_channels
        Channels that keys and values are made of.
    num_heads, attn_ratio, dropout_prob, qkv_bias
        See :class:`SlimSelfAttention`.
    """

    representations = (
        ("slim vector", "slim vector", "scalar", "scalar"),
        ("slim vector", "scalar"),
    )

    def __init__(
        self,
        q_v_channels: int,
        kv_v_channels: int,
        q_s_channels: int,
        kv_s_channels: int,
        num_heads: int,
        attn_ratio: int = 1,
        dropout_prob: float | None = None,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        v, s = _head_channels(q_v_channels, q_s_channels, attn_ratio, num_heads)
        self.heads, self.v_per_head = num_heads, v
        total_v, total_s = num_heads * v, num_heads * s
        self.linear_in_q = SlimLinear(q_v_channels, total_v, q_s_channels, total_s, qkv_bias)
        self.linear_in_kv = SlimLinear(
            kv_v_channels, 2 * total_v, kv_s_channels, 2 * total_s, qkv_bias
        )
        self.linear_out = SlimLinear(
            total_v, q_v_channels, total_s, q_s_channels, initialization="small"
        )
        self.norm = SlimRMSNorm(v, s, elementwise_affine=False)
        self.dropout = None if dropout_prob is None else SlimDropout(dropout_prob)

    def attend(
        self,
        vectors_q: Tensor,
        vectors_kv: Tensor,
        scalars_q: Tensor,
        scalars_kv: Tensor,
        attend: Attend,
    ) -> tuple[Tensor, Tensor]:
        """The layer with prepared attention."""
        (q,) = _project(self.linear_in_q, vectors_q, scalars_q, self.heads, (True,))
        plain = (False, False)
        k, v = _project(self.linear_in_kv, vectors_kv, scalars_kv, self.heads, plain)
        return self.join(attend(q, k, v))

    def forward(
        self,
        vectors_q: Tensor,
        vectors_kv: Tensor,
        scalars_q: Tensor,
        scalars_kv: Tensor,
        **attn_kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Attend from queries to keys.

        Parameters
        ----------
        vectors_q, scalars_q
            ``(..., T, 4, C)`` and ``(..., T, S)``.
        vectors_kv, scalars_kv
            ``(..., U, 4, C')`` and ``(..., U, S')``.
        **attn_kwargs
            See :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Vectors ``(..., T, 4, C)`` and scalars ``(..., T, S)``.
        """
        self.check((vectors_q, scalars_q), (vectors_kv, scalars_kv), ("_q", "_kv"))
        attend = prepare_attention(vectors_q.device, vectors_q.dtype, **attn_kwargs)
        return self.attend(vectors_q, vectors_kv, scalars_q, scalars_kv, attend)

    def check(
        self,
        queries: tuple[Tensor, Tensor],
        keys: tuple[Tensor, Tensor],
        suffixes: tuple[str, str],
    ) -> None:
        """Check vectors and scalars of both sides, whose arguments have these suffixes."""
        q, kv, like = self.linear_in_q, self.linear_in_kv, self.linear_in_q.weight_v
        check_hidden(*queries, q.in_v_channels, q.in_s_channels, like, True, suffixes[0])
        check_hidden(*keys, kv.in_v_channels, kv.in_s_channels, like, True, suffixes[1])
