"""Equivariant multi-head self-attention.

Legend: T tokens, H heads, c and cs multivector and scalar channels per head, D = 16 c + cs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lgatr.attention import prepare_attention
from lgatr.layers.base import Attend, Layer, accepts_hidden
from lgatr.layers.multivector.base import checked_sectors
from lgatr.layers.multivector.config import SelfAttentionConfig, SelfAttentionSetting, resolved
from lgatr.layers.multivector.dropout import GradeDropout
from lgatr.layers.multivector.heads import (
    Heads,
    join,
    join_unfused,
    project,
    project_unfused,
    to_heads,
)
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors, concat_channels, to_public, to_sectors
from lgatr.ops.heads.formula import split_heads
from lgatr.ops.heads.stage import LinearOfHeads, ToHeads
from lgatr.ops.linear.matrices import Assembly
from lgatr.ops.linear.stage import Linear
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.config import cast_config
from lgatr.utils.inputs import check_multivectors, check_scalars

_QKV = (True, False, False)
"""Which of queries, keys and values get the signs of the inner product."""
_NO_METRIC = (False, False, False)  # for users, who put in the signs themselves
_UNUSED = ("out_mv_channels",)
"""Channels that making queries, keys and values does not depend on."""


class _QKVLayer(Layer):
    """What both ways of making queries, keys and values share."""

    def __init__(self, config: SelfAttentionConfig, setting: SelfAttentionSetting) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.mv_channels, self.s_channels = config.head_channels(
            setting.in_mv_channels, setting.in_s_channels
        )
        self.channels = setting.in_mv_channels, setting.in_s_channels
        self.additional = setting.additional_qk_mv_channels, setting.additional_qk_s_channels

    def _linear(
        self, heads: int, additional: bool, bias: bool, primitives: PrimitivesConfig | None
    ) -> EquiLinear:
        """From the tokens' channels, and the additional ones if asked for, to so many heads."""
        mv, s = self.channels
        return EquiLinear(
            mv + additional * self.additional[0],
            heads * self.mv_channels,
            primitives,
            in_s_channels=s + additional * self.additional[1],
            out_s_channels=heads * self.s_channels,
            bias=bias,
        )

    def heads_of(
        self, x: Sectors, additional_qk: Sectors | None, metric: tuple[bool, ...]
    ) -> Heads:
        """Heads of queries, keys and values; ``metric`` as in :func:`to_heads`, or no signs."""
        raise NotImplementedError

    def unfused_heads_of(
        self, x: Sectors, additional_qk: Sectors | None, metric: tuple[bool, ...]
    ) -> Heads:
        """:meth:`heads_of`, with each inner layer called."""
        raise NotImplementedError

    def forward_unfused(self, x: Sectors, additional_qk: Sectors | None = None) -> Heads:
        """:meth:`forward_hidden`, with each inner layer called."""
        return self.unfused_heads_of(x, additional_qk, _QKV)

    def forward_hidden(self, x: Sectors, additional_qk: Sectors | None = None) -> Heads:
        """Heads ``(..., T, H, D)`` of queries (with the metric's signs), keys and values."""
        return self.heads_of(x, additional_qk, _QKV)

    @accepts_hidden
    def forward(
        self,
        multivectors: Tensor,
        scalars: Tensor | None = None,
        additional_qk_features_mv: Tensor | None = None,
        additional_qk_features_s: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Queries, keys and values as public tensors.

        Parameters
        ----------
        multivectors
            ``(..., T, C, 16)``.
        scalars
            ``(..., T, S)``, or None.
        additional_qk_features_mv, additional_qk_features_s
            Further channels for queries and keys.

        Returns
        -------
        Multivectors of q, k, v, each ``(..., H, T, c, 16)`` (k and v with one head for
        multi-query), then their scalars ``(..., H, T, cs)`` or None.
        """
        given = multivectors, scalars, additional_qk_features_mv, additional_qk_features_s
        make = self.unfused_heads_of if self.must_call_inner_layers() else self.heads_of
        heads = make(*self.checked_sectors(*given), _NO_METRIC)
        (q, qs), (k, ks), (v, vs) = (to_public(split_heads(x, self.mv_channels)) for x in heads)
        q, k, v = (x.transpose(-4, -3) for x in (q, k, v))
        qs, ks, vs = (None if x is None else x.transpose(-3, -2) for x in (qs, ks, vs))
        return q, k, v, qs, ks, vs

    def checked_sectors(
        self,
        multivectors: Tensor,
        scalars: Tensor | None,
        additional_mv: Tensor | None,
        additional_s: Tensor | None,
    ) -> tuple[Sectors, Sectors | None]:
        """Public tensors as sectors, with the additional channels or None; checks them all."""
        like = next(self.parameters())
        x = checked_sectors(multivectors, scalars, self.channels, like, items=True)
        mv, s = self.additional
        if not (mv or s) and additional_mv is None and additional_s is None:
            return x, None
        if additional_mv is None and mv == 0:
            additional_mv = multivectors[..., :0, :]
        names = "additional_qk_features_mv", "additional_qk_features_s"
        check_multivectors(names[0], additional_mv, mv, like=like, items=True)
        assert additional_mv is not None
        if additional_mv.shape[:-2] != multivectors.shape[:-2]:
            raise ValueError(
                f"{names[0]} of shape {tuple(additional_mv.shape)} and multivectors of shape "
                f"{tuple(multivectors.shape)} do not belong to the same tokens"
            )
        check_scalars(names[1], additional_s, s, like=like, beside=(names[0], additional_mv))
        return x, to_sectors(additional_mv, additional_s)


class QKVModule(_QKVLayer):
    """Queries, keys and values from one linear layer.

    Parameters
    ----------
    config, setting
        Of the attention layer.
    primitives
        Of the network.
    """

    fused = ("in_linear", "norm_qkv")

    def __init__(
        self,
        config: SelfAttentionConfig,
        primitives: PrimitivesConfig | None = None,
        setting: SelfAttentionSetting | None = None,
    ) -> None:
        super().__init__(config, resolved(SelfAttentionSetting, config, setting, _UNUSED))
        self.in_linear = self._linear(3 * self.heads, True, config.qkv_bias, primitives)
        self.norm_qkv = EquiLayerNorm()
        self._stages: dict[tuple[bool, ...], ToHeads] = {
            metric: to_heads(self.in_linear, self.heads, metric, self.norm_qkv)
            for metric in (_QKV, _NO_METRIC)
        }
        self._seal_fused()

    def heads_of(
        self, x: Sectors, additional_qk: Sectors | None, metric: tuple[bool, ...]
    ) -> Heads:
        """All three from one linear map."""
        x = x if additional_qk is None else concat_channels(x, additional_qk)
        return project(self._stages[metric], self.in_linear, x)

    def unfused_heads_of(
        self, x: Sectors, additional_qk: Sectors | None, metric: tuple[bool, ...]
    ) -> Heads:
        """All three from one linear layer."""
        x = x if additional_qk is None else concat_channels(x, additional_qk)
        return project_unfused(self.in_linear, self.norm_qkv, x, self.heads, metric)


class MultiQueryQKVModule(_QKVLayer):
    """Queries for every head, one set of keys and values for all.

    Parameters
    ----------
    config, setting
        Of the attention layer.
    primitives
        Of the network.
    """

    fused = ("q_linear", "k_linear", "v_linear", "norm_qkv")

    def __init__(
        self,
        config: SelfAttentionConfig,
        primitives: PrimitivesConfig | None = None,
        setting: SelfAttentionSetting | None = None,
    ) -> None:
        super().__init__(config, resolved(SelfAttentionSetting, config, setting, _UNUSED))
        self.q_linear = self._linear(self.heads, True, config.qkv_bias, primitives)
        self.k_linear = self._linear(1, True, config.qkv_bias, primitives)
        self.v_linear = self._linear(1, False, config.qkv_bias, primitives)
        self.norm_qkv = EquiLayerNorm()
        norm = self.norm_qkv
        self._queries = {
            signs: to_heads(self.q_linear, self.heads, (signs,), norm) for signs in (False, True)
        }
        self._keys, self._values = (
            to_heads(linear, 1, (False,), norm) for linear in (self.k_linear, self.v_linear)
        )
        self._seal_fused()

    def heads_of(
        self, x: Sectors, additional_qk: Sectors | None, metric: tuple[bool, ...]
    ) -> Heads:
        """Each from a linear map of its own; keys and values have one head."""
        qk = x if additional_qk is None else concat_channels(x, additional_qk)
        return (
            *project(self._queries[metric[0]], self.q_linear, qk),
            *project(self._keys, self.k_linear, qk),
            *project(self._values, self.v_linear, x),
        )

    def unfused_heads_of(
        self, x: Sectors, additional_qk: Sectors | None, metric: tuple[bool, ...]
    ) -> Heads:
        """Each from its linear layer; the norm for each of the three."""
        qk = x if additional_qk is None else concat_channels(x, additional_qk)
        return (
            *project_unfused(self.q_linear, self.norm_qkv, qk, self.heads, metric[:1]),
            *project_unfused(self.k_linear, self.norm_qkv, qk, 1, metric[1:2]),
            *project_unfused(self.v_linear, self.norm_qkv, x, 1, metric[2:]),
        )


class SelfAttention(Layer):
    """Queries, keys and values, attention, and a linear map of the joined heads.

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

    representations = (("multivector", "scalar"), ("multivector", "scalar"))
    fused = ("out_linear",)

    def __init__(
        self,
        config: SelfAttentionConfig,
        primitives: PrimitivesConfig | None = None,
        setting: SelfAttentionSetting | None = None,
    ) -> None:
        super().__init__()
        config = cast_config(SelfAttentionConfig, config)
        primitives = primitives_config(primitives)
        setting = resolved(SelfAttentionSetting, config, setting)
        qkv = MultiQueryQKVModule if config.multi_query else QKVModule
        self.qkv_module = qkv(config, primitives, setting)
        self.heads, self.mv_channels = config.num_heads, self.qkv_module.mv_channels
        self.out_linear = EquiLinear(
            self.heads * self.mv_channels,
            setting.out_mv_channels,
            primitives,
            in_s_channels=self.heads * self.qkv_module.s_channels,
            out_s_channels=setting.out_s_channels,
            initialization=setting.output_init,
        )
        self.head_scale = nn.Parameter(torch.ones(self.heads)) if config.head_scale else None
        self.dropout = GradeDropout(setting.dropout_prob) if setting.dropout_prob else None
        self._from_heads = LinearOfHeads(self.mv_channels, Linear(Assembly(in_groups=self.heads)))
        self._seal_fused()

    def forward_hidden(
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
        q, k, v = self.qkv_module(x, additional_qk)
        out = join(self._from_heads, self.out_linear, attend(q, k, v), self.head_scale)
        return out if self.dropout is None else self.dropout(out)

    def forward_unfused(
        self, x: Sectors, attend: Attend, additional_qk: Sectors | None = None
    ) -> Sectors:
        """:meth:`forward_hidden`, with each inner layer called."""
        heads = attend(*self.qkv_module(x, additional_qk))
        if self.head_scale is not None:
            heads = heads * self.head_scale.unsqueeze(-1)
        out = join_unfused(self.out_linear, heads, self.mv_channels)
        return out if self.dropout is None else self.dropout(out)

    @accepts_hidden
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
            Arguments of :func:`lgatr.attention.prepare_attention`.

        Returns
        -------
        Multivectors ``(..., items, C', 16)`` and scalars ``(..., items, S')`` or None.
        """
        x, additional = self.qkv_module.checked_sectors(
            multivectors, scalars, additional_qk_features_mv, additional_qk_features_s
        )
        attend = prepare_attention(multivectors.device, multivectors.dtype, **attn_kwargs)
        return to_public(self.run(x, attend, additional))
