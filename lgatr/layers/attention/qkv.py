"""Queries, keys and values.

Legend: T tokens, H heads, K key-value heads, c and cs multivector and scalar channels per head,
D = 16 c + cs.
"""

from __future__ import annotations

from torch import Tensor, nn

from lgatr.layers.attention.config import SelfAttentionConfig
from lgatr.layers.layer_norm import EquiLayerNorm
from lgatr.layers.linear import EquiLinear
from lgatr.layout import Sectors, concat_channels
from lgatr.primitives.attention import sector_heads
from lgatr.primitives.config import PrimitivesConfig
from lgatr.primitives.linear import ScalarMixing, sector_linear, sector_matrices


def head_projection(
    linear: EquiLinear, x: Sectors, parts: int, heads: int, metric: tuple[bool, ...]
) -> Tensor:
    """Project to normalised heads: ``(..., parts, H, D)``.

    The parameters order output channels as (part, channel, head). Reordering the small weights
    puts each head's channels side by side, so the large activations need not be transposed.
    """
    linear.check_channels(x)

    def by_head(weight: Tensor | None) -> Tensor | None:
        if weight is None:
            return None
        split = weight.reshape(parts, linear.out_mv_channels // (parts * heads), heads, -1)
        return split.transpose(1, 2).reshape(weight.shape)

    def scalars_by_head(weight: Tensor | None) -> Tensor | None:
        if weight is None:
            return None
        split = weight.reshape(parts, linear.out_s_channels // (parts * heads), heads, -1)
        return split.transpose(1, 2).reshape(weight.shape)

    raw = linear.mixing()
    mixing = ScalarMixing(by_head(raw.s2mvs), scalars_by_head(raw.mvs2s), scalars_by_head(raw.s2s))
    weight = by_head(linear.weight)
    assert weight is not None
    y = sector_linear(x, sector_matrices(weight, mixing, out_groups=parts * heads))
    grouped = Sectors(*(t.unflatten(-1, (parts, heads, -1)) for t in y))
    return sector_heads(grouped, metric)


class QKVModule(nn.Module):
    """Queries, keys and values from one linear layer.

    Parameters
    ----------
    config
        Of the attention layer.
    primitives
        Of the network.
    """

    def __init__(self, config: SelfAttentionConfig, primitives: PrimitivesConfig) -> None:
        super().__init__()
        assert config.in_mv_channels is not None
        self.heads = config.num_heads
        self.in_linear = EquiLinear(
            config.in_mv_channels + config.additional_qk_mv_channels,
            3 * config.num_heads * config.hidden_mv_channels,
            primitives,
            in_s_channels=config.in_s_channels + config.additional_qk_s_channels,
            out_s_channels=3 * config.num_heads * config.hidden_s_channels,
            bias=False,
        )
        self.norm_qkv = EquiLayerNorm()

    def forward_sectors(
        self, x: Sectors, additional_qk: Sectors | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Heads ``(..., T, H, D)`` of queries (with the metric's signs), keys and values."""
        if additional_qk is not None:
            x = concat_channels(x, additional_qk)
        heads = head_projection(self.in_linear, x, 3, self.heads, (True, False, False))
        q, k, v = heads.unbind(-3)
        return q, k, v


class MultiQueryQKVModule(nn.Module):
    """Queries for every head, one set of keys and values for all.

    Parameters
    ----------
    config
        Of the attention layer.
    primitives
        Of the network.
    """

    def __init__(self, config: SelfAttentionConfig, primitives: PrimitivesConfig) -> None:
        super().__init__()
        assert config.in_mv_channels is not None
        self.heads = config.num_heads

        def linear(heads: int, additional: bool) -> EquiLinear:
            assert config.in_mv_channels is not None
            return EquiLinear(
                config.in_mv_channels + additional * config.additional_qk_mv_channels,
                heads * config.hidden_mv_channels,
                primitives,
                in_s_channels=config.in_s_channels + additional * config.additional_qk_s_channels,
                out_s_channels=heads * config.hidden_s_channels,
                bias=False,
            )

        self.q_linear = linear(config.num_heads, True)
        self.k_linear = linear(1, True)
        self.v_linear = linear(1, False)
        self.norm_qkv = EquiLayerNorm()

    def forward_sectors(
        self, x: Sectors, additional_qk: Sectors | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Heads of queries ``(..., T, H, D)``, keys and values ``(..., T, 1, D)``."""
        qk = x if additional_qk is None else concat_channels(x, additional_qk)
        q = head_projection(self.q_linear, qk, 1, self.heads, (True,))
        k = head_projection(self.k_linear, qk, 1, 1, (False,))
        v = head_projection(self.v_linear, x, 1, 1, (False,))
        return q.squeeze(-3), k.squeeze(-3), v.squeeze(-3)
