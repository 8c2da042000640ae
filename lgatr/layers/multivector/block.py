"""The encoder block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.multivector.attention import SelfAttention
from lgatr.layers.multivector.base import public
from lgatr.layers.multivector.config import SelfAttentionConfig
from lgatr.layers.multivector.heads import Attend
from lgatr.layers.multivector.mlp import GeoMLP
from lgatr.layers.multivector.mlp_config import MLPConfig
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors, residual
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.config import owned_config


class LGATrBlock(nn.Module):
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
    """

    representations = (("multivector", "scalar"), ("multivector", "scalar"))

    def __init__(
        self,
        mv_channels: int,
        s_channels: int,
        attention: SelfAttentionConfig | Mapping[str, Any],
        mlp: MLPConfig | Mapping[str, Any],
        primitives: PrimitivesConfig | Mapping[str, Any] | None = None,
        dropout_prob: float | None = None,
        norm_elementwise_affine: bool = True,
    ) -> None:
        super().__init__()
        primitives = primitives_config(primitives)

        def norm() -> EquiLayerNorm:
            return EquiLayerNorm(
                mv_channels, s_channels, elementwise_affine=norm_elementwise_affine
            )

        self.norm1, self.norm2 = norm(), norm()
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
        self, x: Sectors, attend: Attend, additional_qk: Sectors | None = None
    ) -> Sectors:
        """The block on hidden states; see :class:`SelfAttention` for the arguments."""
        h = self.norm1.forward_sectors(x)
        x = residual(x, self.attention.forward_sectors(h, attend, additional_qk))
        h = self.norm2.forward_sectors(x)
        return residual(x, self.mlp.forward_sectors(h))

    def forward(
        self,
        multivectors: Tensor,
        scalars: Tensor | None = None,
        additional_qk_features_mv: Tensor | None = None,
        additional_qk_features_s: Tensor | None = None,
        **attn_kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The block on public tensors; see :meth:`SelfAttention.forward`."""
        x, additional = self.attention.qkv_module.entering(
            multivectors, scalars, additional_qk_features_mv, additional_qk_features_s
        )
        attend = prepare_attention(multivectors.device, multivectors.dtype, **attn_kwargs)
        return public(self.forward_sectors(x, attend, additional))
