"""Equivariant multi-head cross-attention.

Legend: T query tokens, U key tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.base import Attend, Layer, accepts_hidden
from lgatr.layers.multivector.base import checked_sectors
from lgatr.layers.multivector.config import CrossAttentionConfig, CrossAttentionSetting, resolved
from lgatr.layers.multivector.dropout import GradeDropout
from lgatr.layers.multivector.heads import (
    join,
    join_unfused,
    project,
    project_unfused,
    to_heads,
)
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors, to_public
from lgatr.ops.heads.stage import LinearOfHeads
from lgatr.ops.linear.matrices import Assembly
from lgatr.ops.linear.stage import Linear
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.config import cast_config

_Q, _KV = (True,), (False, False)
"""Which of the parts get the signs of the inner product."""


class CrossAttention(Layer):
    """Queries from one set of tokens, keys and values from another.

    Queries, keys and values are normalised per head (arXiv:2411.00446).

    Parameters
    ----------
    config
        How the layer is built.
    primitives
        Of the network.
    setting
        What the block around the layer decides; None takes it from ``config``.
    """

    representations = (
        ("multivector", "multivector", "scalar", "scalar"),
        ("multivector", "scalar"),
    )
    fused = ("q_linear", "kv_linear", "norm", "out_linear")

    def __init__(
        self,
        config: CrossAttentionConfig,
        primitives: PrimitivesConfig | None = None,
        setting: CrossAttentionSetting | None = None,
    ) -> None:
        super().__init__()
        config = cast_config(CrossAttentionConfig, config)
        primitives = primitives_config(primitives)
        setting = resolved(CrossAttentionSetting, config, setting)
        self.heads = config.num_heads
        self.kv_heads = 1 if config.multi_query else config.num_heads
        mv, s = config.head_channels(setting.q_mv_channels, setting.q_s_channels)
        self.mv_channels = mv
        self.q_linear = EquiLinear(
            setting.q_mv_channels,
            self.heads * mv,
            primitives,
            in_s_channels=setting.q_s_channels,
            out_s_channels=self.heads * s,
            bias=config.qkv_bias,
        )
        self.kv_linear = EquiLinear(
            setting.kv_mv_channels,
            2 * self.kv_heads * mv,
            primitives,
            in_s_channels=setting.kv_s_channels,
            out_s_channels=2 * self.kv_heads * s,
            bias=config.qkv_bias,
        )
        self.out_linear = EquiLinear(
            self.heads * mv,
            setting.out_mv_channels,
            primitives,
            in_s_channels=self.heads * s,
            out_s_channels=setting.out_s_channels,
            initialization=setting.output_init,
        )
        self.norm = EquiLayerNorm() if config.head_norm else None
        self.head_scale = nn.Parameter(torch.ones(self.heads)) if config.head_scale else None
        self.dropout = GradeDropout(setting.dropout_prob) if setting.dropout_prob else None
        self._queries = to_heads(self.q_linear, self.heads, _Q, self.norm)
        self._keys_values = to_heads(self.kv_linear, self.kv_heads, _KV, self.norm)
        self._from_heads = LinearOfHeads(mv, Linear(Assembly(in_groups=self.heads)))
        self._seal_fused()

    def forward_hidden(self, x: Sectors, condition: Sectors, attend: Attend) -> Sectors:
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
        (q,) = project(self._queries, self.q_linear, x)
        k, v = project(self._keys_values, self.kv_linear, condition)
        out = join(self._from_heads, self.out_linear, attend(q, k, v), self.head_scale)
        return out if self.dropout is None else self.dropout(out)

    def forward_unfused(self, x: Sectors, condition: Sectors, attend: Attend) -> Sectors:
        """:meth:`forward_hidden`, with each inner layer called; the norm for both sides."""
        (q,) = project_unfused(self.q_linear, self.norm, x, self.heads, _Q)
        k, v = project_unfused(self.kv_linear, self.norm, condition, self.kv_heads, _KV)
        heads = attend(q, k, v)
        if self.head_scale is not None:
            heads = heads * self.head_scale.unsqueeze(-1)
        out = join_unfused(self.out_linear, heads, self.mv_channels)
        return out if self.dropout is None else self.dropout(out)

    @accepts_hidden
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
            Arguments of :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Multivectors ``(..., T, C_out, 16)`` and scalars ``(..., T, S_out)`` or None.
        """
        x, condition = self.checked_sectors(
            (multivectors_q, scalars_q), (multivectors_kv, scalars_kv), ("_q", "_kv")
        )
        attend = prepare_attention(multivectors_q.device, multivectors_q.dtype, **attn_kwargs)
        return to_public(self.run(x, condition, attend))

    def checked_sectors(
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
        q_channels, kv_channels = (
            (linear.in_mv_channels, linear.in_s_channels) for linear in (q, kv)
        )
        return (
            checked_sectors(*queries, q_channels, like, items=True, suffix=suffixes[0]),
            checked_sectors(*keys, kv_channels, like, items=True, suffix=suffixes[1]),
        )
