"""Equivariant multi-head cross-attention.

Legend: T query tokens, U key tokens, H heads, K key-value heads (H or 1), D head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.multivector.base import entering, public
from lgatr.layers.multivector.config import CrossAttentionConfig
from lgatr.layers.multivector.dropout import GradeDropout
from lgatr.layers.multivector.heads import Attend, head_projection, joining_matrices
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors
from lgatr.primitives.attention import sector_linear_of_heads
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.config import cast_config


class CrossAttention(nn.Module):
    """Queries from one set of tokens, keys and values from another.

    Queries, keys and values are normalised per head (arXiv:2411.00446).

    Parameters
    ----------
    config
        How the layer is built.
    primitives
        Of the network.
    """

    representations = (
        ("multivector", "multivector", "scalar", "scalar"),
        ("multivector", "scalar"),
    )

    def __init__(
        self, config: CrossAttentionConfig, primitives: PrimitivesConfig | None = None
    ) -> None:
        super().__init__()
        config = cast_config(CrossAttentionConfig, config)
        primitives = primitives_config(primitives)
        q_mv, kv_mv, out_mv = config.q_mv_channels, config.kv_mv_channels, config.out_mv_channels
        if q_mv is None or kv_mv is None or out_mv is None:
            raise ValueError(
                "CrossAttentionConfig needs q_mv_channels, kv_mv_channels and out_mv_channels here"
            )
        self.mv_channels, self.heads = config.hidden_mv_channels, config.num_heads
        self.kv_heads = 1 if config.multi_query else config.num_heads
        self.q_linear = EquiLinear(
            q_mv,
            self.heads * config.hidden_mv_channels,
            primitives,
            in_s_channels=config.q_s_channels,
            out_s_channels=self.heads * config.hidden_s_channels,
            bias=config.qkv_bias,
        )
        self.kv_linear = EquiLinear(
            kv_mv,
            2 * self.kv_heads * config.hidden_mv_channels,
            primitives,
            in_s_channels=config.kv_s_channels,
            out_s_channels=2 * self.kv_heads * config.hidden_s_channels,
            bias=config.qkv_bias,
        )
        self.out_linear = EquiLinear(
            self.heads * config.hidden_mv_channels,
            out_mv,
            primitives,
            in_s_channels=self.heads * config.hidden_s_channels,
            out_s_channels=config.out_s_channels,
            initialization=config.output_init,
        )
        self.norm = EquiLayerNorm() if config.head_norm else None
        self.head_scale = nn.Parameter(torch.ones(self.heads)) if config.head_scale else None
        self.dropout = GradeDropout(config.dropout_prob) if config.dropout_prob else None

    def forward_sectors(self, x: Sectors, condition: Sectors, attend: Attend) -> Sectors:
        """The layer on hidden states.

        Parameters
        ----------
        x
            Hidden states of the queries, normalised.
        condition
            Hidden states of keys and values, normalised.
        attend
            Prepared attention.
        """
        normalise = self.norm is not None
        (q,) = head_projection(self.q_linear, x, 1, self.heads, (True,), normalise)
        plain = (False, False)
        k, v = head_projection(self.kv_linear, condition, 2, self.kv_heads, plain, normalise)
        matrices = joining_matrices(self.out_linear, self.heads, self.head_scale)
        out = sector_linear_of_heads(attend(q, k, v), self.mv_channels, matrices)
        return out if self.dropout is None else self.dropout.forward_sectors(out)

    def forward(
        self,
        multivectors_q: Tensor,
        multivectors_kv: Tensor,
        scalars_q: Tensor | None = None,
        scalars_kv: Tensor | None = None,
        **attn_kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The layer on public tensors.

        Parameters
        ----------
        multivectors_q
            ``(..., T, C, 16)``.
        multivectors_kv
            ``(..., U, C', 16)``.
        scalars_q
            ``(..., T, S)``, or None.
        scalars_kv
            ``(..., U, S')``, or None.
        **attn_kwargs
            See :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Multivectors ``(..., T, C_out, 16)`` and scalars ``(..., T, S_out)`` or None.
        """
        x, condition = self.entering(
            (multivectors_q, scalars_q), (multivectors_kv, scalars_kv), ("_q", "_kv")
        )
        attend = prepare_attention(multivectors_q.device, multivectors_q.dtype, **attn_kwargs)
        return public(self.forward_sectors(x, condition, attend))

    def entering(
        self,
        queries: tuple[Tensor, Tensor | None],
        keys: tuple[Tensor, Tensor | None],
        suffixes: tuple[str, str],
    ) -> tuple[Sectors, Sectors]:
        """Public tensors as sectors, after all that is to be checked about them.

        Parameters
        ----------
        queries, keys
            Multivectors and scalars of both sides.
        suffixes
            Of the names of the arguments.
        """
        q, kv, like = self.q_linear, self.kv_linear, self.q_linear.weight
        return (
            entering(*queries, q.in_mv_channels, q.in_s_channels, like, True, suffixes[0]),
            entering(*keys, kv.in_mv_channels, kv.in_s_channels, like, True, suffixes[1]),
        )
