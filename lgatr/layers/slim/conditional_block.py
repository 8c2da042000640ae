"""The decoder block for vectors and scalars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.multivector.heads import Attend
from lgatr.layers.slim.attention import SlimCrossAttention, SlimSelfAttention
from lgatr.layers.slim.mlp import SlimMLP
from lgatr.layers.slim.norm import SlimRMSNorm


class ConditionalSlimBlock(nn.Module):
    """Self-attention, cross-attention to the condition, MLP; each with norm and residual.

    The condition is used as it comes, without a norm of its own.

    Parameters
    ----------
    v_channels, s_channels
        Channels, in and out.
    v_channels_cond, s_channels_cond
        Channels of the condition.
    num_heads, nonlinearity, nonlinearity_v, mlp_ratio, attn_ratio, num_layers_mlp
        See :class:`~lgatr.layers.slim.block.SlimBlock`.
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

    def attend(
        self,
        vectors: Tensor,
        vectors_cond: Tensor,
        scalars: Tensor,
        scalars_cond: Tensor,
        attend: Attend,
        crossattend: Attend,
    ) -> tuple[Tensor, Tensor]:
        """The block with prepared attention."""
        v, s = self.norm1.transform(vectors, scalars)
        v, s = self.selfattention.attend(v, s, attend)
        vectors, scalars = vectors + v, scalars + s
        v, s = self.norm2.transform(vectors, scalars)
        v, s = self.crossattention.attend(v, vectors_cond, s, scalars_cond, crossattend)
        vectors, scalars = vectors + v, scalars + s
        v, s = self.mlp.transform(*self.norm3.transform(vectors, scalars))
        return vectors + v, scalars + s

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
            See :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Vectors ``(..., T, 4, C)`` and scalars ``(..., T, S)``.
        """
        self.crossattention.check((vectors, scalars), (vectors_cond, scalars_cond), ("", "_cond"))
        device, dtype = vectors.device, vectors.dtype
        attend = prepare_attention(device, dtype, **(attn_kwargs or {}))
        crossattend = prepare_attention(device, dtype, **(crossattn_kwargs or {}))
        return self.attend(vectors, vectors_cond, scalars, scalars_cond, attend, crossattend)
