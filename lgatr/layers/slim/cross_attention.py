"""Cross-attention between vectors and scalars.

Legend: T query tokens, U key tokens.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lgatr.attention import prepare_attention
from lgatr.layers.base import Attend, accepts_hidden
from lgatr.layers.slim.attention import SlimAttention, head_channels, project, project_unfused
from lgatr.layers.slim.base import checked_state
from lgatr.layers.slim.dropout import SlimDropout
from lgatr.layers.slim.linear import SlimLinear
from lgatr.layers.slim.norm import SlimRMSNorm
from lgatr.layout import SlimState
from lgatr.ops.slim_heads.stage import linear_of_heads, linear_to_heads

_Q, _KV = (True,), (False, False)
"""Which of the parts get the signs of the inner product."""


class SlimCrossAttention(SlimAttention):
    """Queries from one set of tokens, keys and values from another.

    Parameters
    ----------
    q_v_channels, q_s_channels
        Channels that queries are made of, and of the result.
    kv_v_channels, kv_s_channels
        Channels that keys and values are made of.
    num_heads, attn_ratio, dropout_prob, qkv_bias
        As in :class:`~lgatr.layers.slim.attention.SlimSelfAttention`.
    """

    representations = (
        ("slim vector", "slim vector", "scalar", "scalar"),
        ("slim vector", "scalar"),
    )
    fused = ("linear_in_q", "linear_in_kv", "norm", "linear_out")

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
        v, s = head_channels(q_v_channels, q_s_channels, attn_ratio, num_heads)
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
        self._queries = linear_to_heads(num_heads, _Q, (v, s), self.norm.epsilon)
        self._keys_values = linear_to_heads(num_heads, _KV, (v, s), self.norm.epsilon)
        self._from_heads = linear_of_heads(v)
        self._seal_fused()

    def forward_hidden(self, x: SlimState, condition: SlimState, attend: Attend) -> SlimState:
        """The layer on hidden states.

        Parameters
        ----------
        x
            Hidden states of the queries, normalised.
        condition
            Hidden states of keys and values.
        attend
            Prepared attention.
        """
        norm, heads = self.norm, self.heads
        (q,) = project(self._queries, self.linear_in_q, norm, x, heads, _Q)
        k, v = project(self._keys_values, self.linear_in_kv, norm, condition, heads, _KV)
        return self._join(attend(q, k, v))

    def forward_unfused(self, x: SlimState, condition: SlimState, attend: Attend) -> SlimState:
        """:meth:`forward_hidden`, with each inner layer called; the norm for both sides."""
        (q,) = project_unfused(self.linear_in_q, self.norm, x, self.heads, _Q)
        k, v = project_unfused(self.linear_in_kv, self.norm, condition, self.heads, _KV)
        return self._join_unfused(attend(q, k, v))

    @accepts_hidden
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
            Arguments of :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Vectors ``(..., T, 4, C)`` and scalars ``(..., T, S)``.
        """
        states = self.checked_states(
            (vectors_q, scalars_q), (vectors_kv, scalars_kv), ("_q", "_kv")
        )
        attend = prepare_attention(vectors_q.device, vectors_q.dtype, **attn_kwargs)
        v, s = self.run(*states, attend)
        return v, s

    def checked_states(
        self,
        queries: tuple[Tensor, Tensor],
        keys: tuple[Tensor, Tensor],
        suffixes: tuple[str, str],
    ) -> tuple[SlimState, SlimState]:
        """Vectors and scalars of both sides, whose arguments have these suffixes, checked."""
        q, kv, like = self.linear_in_q, self.linear_in_kv, self.linear_in_q.weight_v
        q_channels, kv_channels = ((m.in_v_channels, m.in_s_channels) for m in (q, kv))
        return (
            checked_state(*queries, q_channels, like, items=True, suffix=suffixes[0]),
            checked_state(*keys, kv_channels, like, items=True, suffix=suffixes[1]),
        )
