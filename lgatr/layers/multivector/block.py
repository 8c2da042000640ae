"""The encoder block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lgatr.attention import prepare_attention
from lgatr.layers.base import Attend, Layer, accepts_hidden, added
from lgatr.layers.multivector.attention import SelfAttention
from lgatr.layers.multivector.config import (
    MLPConfig,
    MLPSetting,
    SelfAttentionConfig,
    SelfAttentionSetting,
)
from lgatr.layers.multivector.mlp import GeoMLP
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors, to_public
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.config import cast_config


class LGATrBlock(Layer):
    """Norm, self-attention, residual; norm, geometric MLP, residual.

    Parameters
    ----------
    mv_channels, s_channels
        Channels, in and out.
    attention, mlp, primitives
        Configurations, as objects or mappings.
    dropout_prob
        Dropout probability, or None.
    norm_elementwise_affine
        Whether the norms learn gains.
    additional_qk_mv_channels, additional_qk_s_channels
        Further channels that only enter queries and keys; None takes those of ``attention``.
    """

    representations = (("multivector", "scalar"), ("multivector", "scalar"))
    fused = ("norm1", "norm2")

    def __init__(
        self,
        mv_channels: int,
        s_channels: int,
        attention: SelfAttentionConfig | Mapping[str, Any],
        mlp: MLPConfig | Mapping[str, Any],
        primitives: PrimitivesConfig | Mapping[str, Any] | None = None,
        dropout_prob: float | None = None,
        norm_elementwise_affine: bool = True,
        additional_qk_mv_channels: int | None = None,
        additional_qk_s_channels: int | None = None,
    ) -> None:
        super().__init__()
        primitives = primitives_config(primitives)
        attention = cast_config(SelfAttentionConfig, attention)
        mlp = cast_config(MLPConfig, mlp)
        affine = norm_elementwise_affine
        self.norm1 = EquiLayerNorm(mv_channels, s_channels, elementwise_affine=affine)
        self.norm2 = EquiLayerNorm(mv_channels, s_channels, elementwise_affine=affine)
        if additional_qk_mv_channels is None:
            additional_qk_mv_channels = attention.additional_qk_mv_channels
        if additional_qk_s_channels is None:
            additional_qk_s_channels = attention.additional_qk_s_channels
        setting = SelfAttentionSetting(
            in_mv_channels=mv_channels,
            out_mv_channels=mv_channels,
            in_s_channels=s_channels,
            out_s_channels=s_channels,
            additional_qk_mv_channels=additional_qk_mv_channels,
            additional_qk_s_channels=additional_qk_s_channels,
            output_init="small",
            dropout_prob=dropout_prob,
        )
        self.attention = SelfAttention(attention, primitives, setting)
        self.mlp = GeoMLP(mlp, primitives, MLPSetting(mv_channels, s_channels, dropout_prob))
        self._seal_fused()

    def forward_hidden(
        self, x: Sectors, attend: Attend, additional_qk: Sectors | None = None
    ) -> Sectors:
        """The block on hidden states.

        Parameters
        ----------
        x
            Hidden states.
        attend
            Prepared attention.
        additional_qk
            Further channels for queries and keys.
        """
        x, normalised = self.norm1.of_sum(x, None)
        h = self.attention(normalised, attend, additional_qk)
        x, normalised = self.norm2.of_sum(x, h)
        h = self.mlp(normalised)
        return added(x, h)

    def forward_unfused(
        self, x: Sectors, attend: Attend, additional_qk: Sectors | None = None
    ) -> Sectors:
        """:meth:`forward_hidden`, with each norm called."""
        h = self.attention(self.norm1(x), attend, additional_qk)
        x = added(x, h)
        h = self.mlp(self.norm2(x))
        return added(x, h)

    @accepts_hidden
    def forward(
        self,
        multivectors: Tensor,
        scalars: Tensor | None = None,
        additional_qk_features_mv: Tensor | None = None,
        additional_qk_features_s: Tensor | None = None,
        **attn_kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The block on public tensors, those of :meth:`SelfAttention.forward`."""
        x, additional = self.attention.qkv_module.checked_sectors(
            multivectors, scalars, additional_qk_features_mv, additional_qk_features_s
        )
        attend = prepare_attention(multivectors.device, multivectors.dtype, **attn_kwargs)
        return to_public(self.run(x, attend, additional))
