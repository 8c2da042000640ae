"""The encoder block for vectors and scalars."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lgatr.layers.base import Attend, Layer, accepts_hidden, added
from lgatr.layers.slim.attention import SlimSelfAttention
from lgatr.layers.slim.mlp import SlimMLP
from lgatr.layers.slim.norm import SlimRMSNorm
from lgatr.layout import SlimState


class SlimBlock(Layer):
    """Norm, self-attention, residual; norm, MLP, residual.

    Parameters
    ----------
    v_channels, s_channels
        Channels, in and out.
    num_heads
        Number of heads.
    nonlinearity, nonlinearity_v
        As in :class:`~lgatr.layers.slim.mlp.SlimGLU`.
    mlp_ratio, attn_ratio
        Factors between channels and hidden channels of MLP and attention.
    num_layers_mlp
        Layers of the MLP, at least 2.
    dropout_prob
        Dropout probability, or None.
    norm_elementwise_affine
        Whether the norms learn gains.
    qkv_bias
        Whether queries, keys and values have biases, as they had in lgatr 1.x.
    """

    representations = (("slim vector", "scalar"), ("slim vector", "scalar"))
    fused = ("norm1", "norm2")

    def __init__(
        self,
        v_channels: int,
        s_channels: int,
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
        affine = norm_elementwise_affine
        self.norm1 = SlimRMSNorm(v_channels, s_channels, elementwise_affine=affine)
        self.norm2 = SlimRMSNorm(v_channels, s_channels, elementwise_affine=affine)
        self.attention = SlimSelfAttention(
            v_channels, s_channels, num_heads, attn_ratio, dropout_prob, qkv_bias
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
        self._seal_fused()

    def forward_hidden(self, x: SlimState, attend: Attend) -> SlimState:
        """The block on hidden states, with prepared attention."""
        x, normalised = self.norm1.of_sum(x, None)
        h = self.attention(normalised, attend)
        x, normalised = self.norm2.of_sum(x, h)
        h = self.mlp(normalised)
        return added(x, h)

    def forward_unfused(self, x: SlimState, attend: Attend) -> SlimState:
        """:meth:`forward_hidden`, with each norm called."""
        h = self.attention(self.norm1(x), attend)
        x = added(x, h)
        h = self.mlp(self.norm2(x))
        return added(x, h)

    @accepts_hidden
    def forward(
        self, vectors: Tensor, scalars: Tensor, **attn_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Map ``(..., T, 4, C)`` and ``(..., T, S)``, with the arguments of its attention."""
        v, s = self.run(*self.attention.checked_inputs(vectors, scalars, attn_kwargs))
        return v, s
