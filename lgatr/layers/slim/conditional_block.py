"""The decoder block for vectors and scalars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lgatr.attention import prepare_attention
from lgatr.layers.base import Attend, Layer, accepts_hidden, added
from lgatr.layers.slim.attention import SlimSelfAttention
from lgatr.layers.slim.cross_attention import SlimCrossAttention
from lgatr.layers.slim.mlp import SlimMLP
from lgatr.layers.slim.norm import SlimRMSNorm
from lgatr.layout import SlimState


class ConditionalSlimBlock(Layer):
    """Self-attention, cross-attention to the condition, MLP; each with norm and residual.

    The condition is used as it comes, without a norm of its own.

    Parameters
    ----------
    v_channels, s_channels
        Channels, in and out.
    v_channels_cond, s_channels_cond
        Channels of the condition.
    num_heads, nonlinearity, nonlinearity_v, mlp_ratio, attn_ratio, num_layers_mlp
        As in :class:`~lgatr.layers.slim.block.SlimBlock`.
    dropout_prob, norm_elementwise_affine, qkv_bias
        Likewise.
    """

    representations = (
        ("slim vector", "slim vector", "scalar", "scalar"),
        ("slim vector", "scalar"),
    )

    def __init__(
        self,
        v_channels: int,
        v_channels_cond: int,
        s_channels: int,
        s_channels_cond: int,
        num_heads: int,
        nonlinearity: str = "gelu",
        nonlinearity_v: str | None = "sigmoid",
        mlp_ratio: int = 2,
        attn_ratio: int = 1,
        num_layers_mlp: int = 2,
        dropout_prob: float | None = None,
        norm_elementwise_affine: bool = True,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (
            SlimRMSNorm(v_channels, s_channels, elementwise_affine=norm_elementwise_affine)
            for _ in range(3)
        )
        self.selfattention = SlimSelfAttention(
            v_channels, s_channels, num_heads, attn_ratio, dropout_prob, qkv_bias
        )
        self.crossattention = SlimCrossAttention(
            v_channels,
            v_channels_cond,
            s_channels,
            s_channels_cond,
            num_heads,
            attn_ratio,
            dropout_prob,
            qkv_bias,
        )
        self.mlp = SlimMLP(
            v_channels,
            s_channels,
            nonlinearity,
            nonlinearity_v,
            mlp_ratio,
            num_layers_mlp,
            dropout_prob,
        )

    def forward_hidden(
        self, x: SlimState, condition: SlimState, attend: Attend, crossattend: Attend
    ) -> SlimState:
        """The block on hidden states.

        Parameters
        ----------
        x
            Hidden states.
        condition
            Hidden states of the condition.
        attend, crossattend
            Prepared self-attention and cross-attention.
        """
        h = self.selfattention(self.norm1(x), attend)
        x = added(x, h)
        h = self.crossattention(self.norm2(x), condition, crossattend)
        x = added(x, h)
        h = self.mlp(self.norm3(x))
        return added(x, h)

    @accepts_hidden
    def forward(
        self,
        vectors: Tensor,
        vectors_cond: Tensor,
        scalars: Tensor,
        scalars_cond: Tensor,
        attn_kwargs: Mapping[str, Any] | None = None,
        crossattn_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The block.

        Parameters
        ----------
        vectors, scalars
            ``(..., T, 4, C)`` and ``(..., T, S)``.
        vectors_cond, scalars_cond
            ``(..., U, 4, C')`` and ``(..., U, S')``.
        attn_kwargs, crossattn_kwargs
            Arguments of :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Vectors ``(..., T, 4, C)`` and scalars ``(..., T, S)``.
        """
        states = self.crossattention.checked_states(
            (vectors, scalars), (vectors_cond, scalars_cond), ("", "_cond")
        )
        device, dtype = vectors.device, vectors.dtype
        attend = prepare_attention(device, dtype, **(attn_kwargs or {}))
        crossattend = prepare_attention(device, dtype, **(crossattn_kwargs or {}))
        v, s = self.run(*states, attend, crossattend)
        return v, s
