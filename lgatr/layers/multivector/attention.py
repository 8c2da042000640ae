"""Equivariant multi-head self-attention.

Legend: T tokens, H heads, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.multivector.base import public
from lgatr.layers.multivector.config import SelfAttentionConfig
from lgatr.layers.multivector.dropout import GradeDropout
from lgatr.layers.multivector.heads import Attend, joining_matrices
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.qkv import MultiQueryQKVModule, QKVModule
from lgatr.layout import Sectors
from lgatr.primitives.attention import sector_linear_of_heads
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.config import cast_config


class SelfAttention(nn.Module):
    """Queries, keys and values, attention, and a linear map of the joined heads.

    Queries, keys and values are normalised per head (arXiv:2411.00446).

    Parameters
    ----------
    config
        How the layer is built.
    primitives
        Of the network.
    """

    representations = (("multivector", "scalar"), ("multivector", "scalar"))

    def __init__(
        self, config: SelfAttentionConfig, primitives: PrimitivesConfig | None = None
    ) -> None:
        super().__init__()
        config = cast_config(SelfAttentionConfig, config)
        primitives = primitives_config(primitives)
        if config.in_mv_channels is None or config.out_mv_channels is None:
            raise ValueError("SelfAttentionConfig needs in_mv_channels and out_mv_channels here")
        self.mv_channels, self.heads = config.hidden_mv_channels, config.num_heads
        qkv = MultiQueryQKVModule if config.multi_query else QKVModule
        self.qkv_module = qkv(config, primitives)
        self.out_linear = EquiLinear(
            config.num_heads * config.hidden_mv_channels,
            config.out_mv_channels,
            primitives,
            in_s_channels=config.num_heads * config.hidden_s_channels,
            out_s_channels=config.out_s_channels,
            initialization=config.output_init,
        )
        self.head_scale = nn.Parameter(torch.ones(config.num_heads)) if config.head_scale else None
        self.dropout = GradeDropout(config.dropout_prob) if config.dropout_prob else None

    def forward_sectors(
        self, x: Sectors, attend: Attend, additional_qk: Sectors | None = None
    ) -> Sectors:
        """The layer on hidden states.

        Parameters
        ----------
        x
            Hidden states, normalised.
        attend
            Prepared attention.
        additional_qk
            Further channels for queries and keys.
        """
        q, k, v = self.qkv_module.forward_sectors(x, additional_qk)
        matrices = joining_matrices(self.out_linear, self.heads, self.head_scale)
        out = sector_linear_of_heads(attend(q, k, v), self.mv_channels, matrices)
        return out if self.dropout is None else self.dropout.forward_sectors(out)

    def forward(
        self,
        multivectors: Tensor,
        scalars: Tensor | None = None,
        additional_qk_features_mv: Tensor | None = None,
        additional_qk_features_s: Tensor | None = None,
        **attn_kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The layer on public tensors.

        Parameters
        ----------
        multivectors
            ``(..., items, C, 16)``.
        scalars
            ``(..., items, S)``, or None.
        additional_qk_features_mv, additional_qk_features_s
            Further channels for queries and keys.
        **attn_kwargs
            See :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Multivectors ``(..., items, C', 16)`` and scalars ``(..., items, S')`` or None.
        """
        x, additional = self.qkv_module.entering(
            multivectors, scalars, additional_qk_features_mv, additional_qk_features_s
        )
        attend = prepare_attention(multivectors.device, multivectors.dtype, **attn_kwargs)
        return public(self.forward_sectors(x, attend, additional))
