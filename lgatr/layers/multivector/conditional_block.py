"""The decoder block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.multivector.attention import SelfAttention
from lgatr.layers.multivector.base import public
from lgatr.layers.multivector.config import CrossAttentionConfig, SelfAttentionConfig
from lgatr.layers.multivector.cross_attention import CrossAttention
from lgatr.layers.multivector.heads import Attend
from lgatr.layers.multivector.mlp import GeoMLP
from lgatr.layers.multivector.mlp_config import MLPConfig
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors, residual
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.config import owned_config


class ConditionalLGATrBlock(nn.Module):
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

        def norm(mv: int, s: int) -> EquiLayerNorm:
            return EquiLayerNorm(mv, s, elementwise_affine=norm_elementwise_affine)

        self.norm1, self.norm2, self.norm3 = (norm(mv_channels, s_channels) for _ in range(3))
        self.norm_cond = norm(mv_channels_cond, s_channels_cond)
        self.attention = SelfAttention(
            owned_config(
                SelfAttentionConfig,
                attention,
                in_mv_channels=mv_channels,
                out_mv_channels=mv_channels,
                in_s_channels=s_channels,
                out_s_channels=s_channels,
                output_init="small",
                dropout_prob=dropout_prob,
            ),
            primitives,
        )
        self.crossattention = CrossAttention(
            owned_config(
                CrossAttentionConfig,
                crossattention,
                q_mv_channels=mv_channels,
                q_s_channels=s_channels,
                kv_mv_channels=mv_channels_cond,
                kv_s_channels=s_channels_cond,
                out_mv_channels=mv_channels,
                out_s_channels=s_channels,
                output_init="small",
                dropout_prob=dropout_prob,
            ),
            primitives,
        )
        self.mlp = GeoMLP(
            owned_config(
                MLPConfig,
                mlp,
                mv_channels=mv_channels,
                s_channels=s_channels,
                dropout_prob=dropout_prob,
            ),
            primitives,
        )

    def forward_sectors(
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
        h = self.norm1.forward_sectors(x)
        x = residual(x, self.attention.forward_sectors(h, attend))
        h, c = self.norm2.forward_sectors(x), self.norm_cond.forward_sectors(condition)
        x = residual(x, self.crossattention.forward_sectors(h, c, crossattend))
        h = self.norm3.forward_sectors(x)
        return residual(x, self.mlp.forward_sectors(h))

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
            For self-attention and cross-attention; see
            :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Multivectors ``(..., items, C, 16)`` and scalars ``(..., items, S)`` or None.
        """
        x, condition = self.crossattention.entering(
            (multivectors, scalars), (multivectors_cond, scalars_cond), ("", "_cond")
        )
        device, dtype = multivectors.device, multivectors.dtype
        out = self.forward_sectors(
            x,
            condition,
            prepare_attention(device, dtype, **(attn_kwargs or {})),
            prepare_attention(device, dtype, **(crossattn_kwargs or {})),
        )
        return public(out)
