"""Queries, keys and values.

Legend: T tokens, H heads, K key-value heads, c and cs multivector and scalar channels per head,
D = 16 c + cs.
"""

from __future__ import annotations

from torch import Tensor, nn

from lgatr.layers.multivector.base import entering
from lgatr.layers.multivector.config import SelfAttentionConfig
from lgatr.layers.multivector.heads import head_projection, public_heads
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors, concat_channels, to_sectors
from lgatr.primitives.config import PrimitivesConfig
from lgatr.utils.inputs import check_multivectors, check_scalars

_PUBLIC = (False, False, False)
_DOT_PRODUCT = (True, False, False)


class _QKV(nn.Module):
    """What both ways of making queries, keys and values have in common."""

    def __init__(self, config: SelfAttentionConfig) -> None:
        super().__init__()
        self.heads, self.mv_channels = config.num_heads, config.hidden_mv_channels
        if config.in_mv_channels is None:
            raise ValueError("SelfAttentionConfig needs in_mv_channels here")
        self.channels = config.in_mv_channels, config.in_s_channels
        self.additional = config.additional_qk_mv_channels, config.additional_qk_s_channels

    def project(
        self, x: Sectors, additional_qk: Sectors | None, metric: tuple[bool, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Heads of queries, keys and values, with the inner product's signs where asked."""
        raise NotImplementedError

    def forward_sectors(
        self, x: Sectors, additional_qk: Sectors | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Heads of queries ``(..., T, H, D)`` with the metric's signs, keys and values."""
        return self.project(x, additional_qk, _DOT_PRODUCT)

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
        heads = self.project(*self.entering(*given), _PUBLIC)
        (q, qs), (k, ks), (v, vs) = (public_heads(x, self.mv_channels) for x in heads)
        return q, k, v, qs, ks, vs

    def entering(
        self,
        multivectors: Tensor,
        scalars: Tensor | None,
        additional_mv: Tensor | None,
        additional_s: Tensor | None,
    ) -> tuple[Sectors, Sectors | None]:
        """Public tensors as sectors, with the additional channels or None; checks them all."""
        like = next(self.parameters())
        x = entering(multivectors, scalars, *self.channels, like, items=True)
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


class QKVModule(_QKV):
    """Queries, keys and values from one linear layer.

    Parameters
    ----------
    config
        Of the attention layer.
    primitives
        Of the network.
    """

    def __init__(
        self, config: SelfAttentionConfig, primitives: PrimitivesConfig | None = None
    ) -> None:
        super().__init__(config)
        assert config.in_mv_channels is not None
        self.in_linear = EquiLinear(
            config.in_mv_channels + config.additional_qk_mv_channels,
            3 * config.num_heads * config.hidden_mv_channels,
            primitives,
            in_s_channels=config.in_s_channels + config.additional_qk_s_channels,
            out_s_channels=3 * config.num_heads * config.hidden_s_channels,
            bias=config.qkv_bias,
        )
        self.norm_qkv = EquiLayerNorm()

    def project(
        self, x: Sectors, additional_qk: Sectors | None, metric: tuple[bool, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the base class."""
        if additional_qk is not None:
            x = concat_channels(x, additional_qk)
        q, k, v = head_projection(self.in_linear, x, 3, self.heads, metric)
        return q, k, v


class MultiQueryQKVModule(_QKV):
    """Queries for every head, one set of keys and values for all.

    Parameters
    ----------
    config
        Of the attention layer.
    primitives
        Of the network.
    """

    def __init__(
        self, config: SelfAttentionConfig, primitives: PrimitivesConfig | None = None
    ) -> None:
        super().__init__(config)

        def linear(heads: int, additional: bool) -> EquiLinear:
            assert config.in_mv_channels is not None
            return EquiLinear(
                config.in_mv_channels + additional * config.additional_qk_mv_channels,
                heads * config.hidden_mv_channels,
                primitives,
                in_s_channels=config.in_s_channels + additional * config.additional_qk_s_channels,
                out_s_channels=heads * config.hidden_s_channels,
                bias=config.qkv_bias,
            )

        self.q_linear = linear(config.num_heads, True)
        self.k_linear = linear(1, True)
        self.v_linear = linear(1, False)
        self.norm_qkv = EquiLayerNorm()

    def project(
        self, x: Sectors, additional_qk: Sectors | None, metric: tuple[bool, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the base class."""
        qk = x if additional_qk is None else concat_channels(x, additional_qk)
        (q,) = head_projection(self.q_linear, qk, 1, self.heads, metric[:1])
        (k,) = head_projection(self.k_linear, qk, 1, 1, metric[1:2])
        (v,) = head_projection(self.v_linear, x, 1, 1, metric[2:])
        return q, k, v
