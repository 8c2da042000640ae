"""The decoder block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lgatr.attention import prepare_attention
from lgatr.layers.base import Attend, Layer, accepts_hidden, added
from lgatr.layers.multivector.attention import SelfAttention
from lgatr.layers.multivector.config import (
    CrossAttentionConfig,
    CrossAttentionSetting,
    MLPConfig,
    MLPSetting,
    SelfAttentionConfig,
    SelfAttentionSetting,
)
from lgatr.layers.multivector.cross_attention import CrossAttention
from lgatr.layers.multivector.mlp import GeoMLP
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors, to_public
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.config import cast_config


class ConditionalLGATrBlock(Layer):
    """Self-attention, cross-attention to the condition, MLP; each with norm and residual.

    Parameters
    ----------
    mv_channels, s_channels
        Channels, in and out.
    mv_channels_cond, s_channels_cond
        Channels of the condition.
    attention, crossattention, mlp, primitives
        Configurations, as objects or mappings.
    dropout_prob
        Dropout probability, or None.
    norm_elementwise_affine
        Whether the norms learn gains.
    """

    representations = (
        ("multivector", "multivector", "scalar", "scalar"),
        ("multivector", "scalar"),
    )

    def __init__(
        self,
        mv_channels: int,
        s_channels: int,
        mv_channels_cond: int,
        s_channels_cond: int,
        attention: SelfAttentionConfig | Mapping[str, Any],
        crossattention: CrossAttentionConfig | Mapping[str, Any],
        mlp: MLPConfig | Mapping[str, Any],
        primitives: PrimitivesConfig | Mapping[str, Any] | None = None,
        dropout_prob: float | None = None,
        norm_elementwise_affine: bool = True,
    ) -> None:
        super().__init__()
        primitives = primitives_config(primitives)
        affine = norm_elementwise_affine
        self.norm1, self.norm2, self.norm3 = (
            EquiLayerNorm(mv_channels, s_channels, elementwise_affine=affine) for _ in range(3)
        )
        self.norm_cond = EquiLayerNorm(mv_channels_cond, s_channels_cond, elementwise_affine=affine)
        setting = SelfAttentionSetting(
            in_mv_channels=mv_channels,
            out_mv_channels=mv_channels,
            in_s_channels=s_channels,
            out_s_channels=s_channels,
            output_init="small",
            dropout_prob=dropout_prob,
        )
        self.attention = SelfAttention(
            cast_config(SelfAttentionConfig, attention), primitives, setting
        )
        cross_setting = CrossAttentionSetting(
            q_mv_channels=mv_channels,
            q_s_channels=s_channels,
            kv_mv_channels=mv_channels_cond,
            kv_s_channels=s_channels_cond,
            out_mv_channels=mv_channels,
            out_s_channels=s_channels,
            output_init="small",
            dropout_prob=dropout_prob,
        )
        self.crossattention = CrossAttention(
            cast_config(CrossAttentionConfig, crossattention), primitives, cross_setting
        )
        mlp_setting = MLPSetting(mv_channels, s_channels, dropout_prob)
        self.mlp = GeoMLP(cast_config(MLPConfig, mlp), primitives, mlp_setting)

    def forward_hidden(
        self, x: Sectors, condition: Sectors, attend: Attend, crossattend: Attend
    ) -> Sectors:
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
        h = self.attention(self.norm1(x), attend)
        x = added(x, h)
        h = self.crossattention(self.norm2(x), self.norm_cond(condition), crossattend)
        x = added(x, h)
        h = self.mlp(self.norm3(x))
        return added(x, h)

    @accepts_hidden
    def forward(
        self,
        multivectors: Tensor,
        multivectors_cond: Tensor,
        scalars: Tensor | None = None,
        scalars_cond: Tensor | None = None,
        attn_kwargs: Mapping[str, Any] | None = None,
        crossattn_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The block on public tensors.

        Parameters
        ----------
        multivectors, scalars
            ``(..., items, C, 16)`` and ``(..., items, S)`` or None.
        multivectors_cond, scalars_cond
            ``(..., items_cond, C', 16)`` and ``(..., items_cond, S')`` or None.
        attn_kwargs, crossattn_kwargs
            Arguments of :func:`lgatr.attention.prepare_attention`, for self-attention and for
            cross-attention.

        Returns
        -------
        Multivectors ``(..., items, C, 16)`` and scalars ``(..., items, S)`` or None.
        """
        x, condition = self.crossattention.checked_sectors(
            (multivectors, scalars), (multivectors_cond, scalars_cond), ("", "_cond")
        )
        device, dtype = multivectors.device, multivectors.dtype
        attend = prepare_attention(device, dtype, **(attn_kwargs or {}))
        crossattend = prepare_attention(device, dtype, **(crossattn_kwargs or {}))
        return to_public(self.run(x, condition, attend, crossattend))
