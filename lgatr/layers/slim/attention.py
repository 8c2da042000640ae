"""Self-attention between vectors and scalars.

Legend: T tokens, P parts such as queries, keys and values, H heads, c and cs vector and scalar
channels per head, D = 4 c + cs head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lgatr.attention import prepare_attention
from lgatr.layers.base import Attend, Layer, accepts_hidden
from lgatr.layers.slim.base import checked_state
from lgatr.layers.slim.dropout import SlimDropout
from lgatr.layers.slim.linear import SlimLinear
from lgatr.layers.slim.norm import SlimRMSNorm
from lgatr.layout import SlimState
from lgatr.ops._runtime.stage import Fused
from lgatr.ops.slim_heads.formula import vectors_from_heads
from lgatr.ops.slim_heads.stage import linear_of_heads, linear_to_heads
from lgatr.utils.arguments import check_counts

_QKV = (True, False, False)
"""Which of queries, keys and values get the signs of the inner product."""


def head_channels(v_channels: int, s_channels: int, ratio: int, heads: int) -> tuple[int, int]:
    """Vector and scalar channels of one head: at least one vector and four scalars."""
    check_counts(1, num_heads=heads, attn_ratio=ratio)
    check_counts(0, v_channels=v_channels, s_channels=s_channels)
    return max(v_channels * ratio // heads, 1), max(s_channels * ratio // heads, 4)


def project(
    stage: Fused,
    linear: SlimLinear,
    norm: SlimRMSNorm,
    x: SlimState,
    heads: int,
    metric: tuple[bool, ...],
) -> tuple[Tensor, ...]:
    """Normalised heads ``(..., T, H, D)`` of each part (queries, keys, values), from one layer.

    Parameters
    ----------
    stage
        Of :func:`~lgatr.ops.slim_heads.stage.linear_to_heads`, with these layers and options.
    linear
        Its output channels are ordered (part, channel, head).
    norm
        Of each head.
    x
        The state.
    heads
        Number of heads H of each part.
    metric
        For each part whether it gets the signs of the inner product.
    """
    matrices = linear.by_head(len(metric), heads)
    if matrices.s is None:
        return project_unfused(linear, norm, x, heads, metric)
    return stage(*x, *matrices)


def project_unfused(
    linear: SlimLinear, norm: SlimRMSNorm, x: SlimState, heads: int, metric: tuple[bool, ...]
) -> tuple[Tensor, ...]:
    """:func:`project` that calls the linear layer and the norm."""
    split = (t.unflatten(-1, (len(metric), -1, heads)).transpose(-1, -2) for t in linear(x))
    v, s = split
    v, s = norm(SlimState(v.movedim(-4, -2), s))
    time, *space = v.unbind(-2)
    signs = v.new_tensor([-1.0 if part else 1.0 for part in metric]).view(-1, 1, 1)
    return torch.cat([time, *(row * signs for row in space), s], dim=-1).unbind(-3)


class SlimAttention(Layer):
    """What both kinds of attention share: the linear map of the joined heads, and dropout."""

    linear_out: SlimLinear
    v_per_head: int
    dropout: SlimDropout | None
    _from_heads: Fused

    def _join(self, heads: Tensor) -> SlimState:
        """The output from heads ``(..., T, H, D)``."""
        matrices = self.linear_out.matrices
        if matrices.s is None:
            return self._join_unfused(heads)
        out = SlimState(*self._from_heads(heads, *matrices))
        return out if self.dropout is None else self.dropout(out)

    def _join_unfused(self, heads: Tensor) -> SlimState:
        out: SlimState = self.linear_out(SlimState(*vectors_from_heads(heads, self.v_per_head)))
        return out if self.dropout is None else self.dropout(out)


class SlimSelfAttention(SlimAttention):
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
    fused = ("linear_in", "norm", "linear_out")

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
        v, s = head_channels(v_channels, s_channels, attn_ratio, num_heads)
        self.heads, self.v_per_head = num_heads, v
        total_v, total_s = num_heads * v, num_heads * s
        self.linear_in = SlimLinear(v_channels, 3 * total_v, s_channels, 3 * total_s, qkv_bias)
        self.linear_out = SlimLinear(
            total_v, v_channels, total_s, s_channels, initialization="small"
        )
        self.norm = SlimRMSNorm(v, s, elementwise_affine=False)
        self.dropout = None if dropout_prob is None else SlimDropout(dropout_prob)
        self._to_heads = linear_to_heads(num_heads, _QKV, (v, s), self.norm.epsilon)
        self._from_heads = linear_of_heads(v)
        self._seal_fused()

    def forward_hidden(self, x: SlimState, attend: Attend) -> SlimState:
        """The layer on hidden states, which are normalised, with prepared attention."""
        q, k, v = project(self._to_heads, self.linear_in, self.norm, x, self.heads, _QKV)
        return self._join(attend(q, k, v))

    def forward_unfused(self, x: SlimState, attend: Attend) -> SlimState:
        """:meth:`forward_hidden`, with each inner layer called."""
        q, k, v = project_unfused(self.linear_in, self.norm, x, self.heads, _QKV)
        return self._join_unfused(attend(q, k, v))

    @accepts_hidden
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
            Arguments of :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Tensors of the same shapes.
        """
        v, s = self.run(*self.checked_inputs(vectors, scalars, attn_kwargs))
        return v, s

    def checked_inputs(
        self, vectors: Tensor, scalars: Tensor, attn_kwargs: dict[str, Any]
    ) -> tuple[SlimState, Attend]:
        """What users give, as the layer and its block take it on hidden states."""
        first = self.linear_in
        channels = first.in_v_channels, first.in_s_channels
        x = checked_state(vectors, scalars, channels, first.weight_v, items=True)
        return x, prepare_attention(vectors.device, vectors.dtype, **attn_kwargs)
