"""Configuration of self-attention and cross-attention."""

from __future__ import annotations

from dataclasses import dataclass

from lgatr.utils.arguments import check_counts, check_flags, check_probability
from lgatr.utils.legacy import accepts_legacy


def _check(config: SelfAttentionConfig | CrossAttentionConfig) -> None:
    check_counts(1, num_heads=config.num_heads, attn_ratio=config.attn_ratio)
    channels = {k: v for k, v in vars(config).items() if k.endswith("_channels")}
    check_counts(0, **{k: v for k, v in channels.items() if v is not None})
    check_probability("dropout_prob", config.dropout_prob)
    flags = ("multi_query", "head_scale", "qkv_bias", "head_norm")
    check_flags(**{name: value for name, value in vars(config).items() if name in flags})


def _head_channels(channels: int, attn_ratio: int, num_heads: int, minimum: int) -> int:
    return max(channels * attn_ratio // num_heads, minimum)


@accepts_legacy("__init__", increase_hidden_channels="attn_ratio", checkpoint=None)
@dataclass
class SelfAttentionConfig:
    """How a self-attention layer is built.

    The channel numbers, ``output_init`` and ``dropout_prob`` are set by the block that owns the
    layer; users choose the others.

    Parameters
    ----------
    in_mv_channels, out_mv_channels, in_s_channels, out_s_channels
        Channels of the layer.
    additional_qk_mv_channels, additional_qk_s_channels
        Further channels that only enter queries and keys.
    output_init
        Initialization of the output layer; see :class:`~lgatr.layers.multivector.linear.EquiLinear`.
    dropout_prob
        Dropout probability of the output, or None.
    num_heads
        Number of heads.
    multi_query
        Whether all heads share one set of keys and values.
    attn_ratio
        Factor between channels and the sum of head channels.
    head_scale
        Whether each head gets a learned factor (NormFormer, arXiv:2110.09456).
    qkv_bias
        Whether queries, keys and values have biases, as they had in lgatr 1.x.
    """

    in_mv_channels: int | None = None
    out_mv_channels: int | None = None
    in_s_channels: int = 0
    out_s_channels: int = 0
    additional_qk_mv_channels: int = 0
    additional_qk_s_channels: int = 0
    output_init: str = "default"
    dropout_prob: float | None = None
    num_heads: int = 8
    multi_query: bool = False
    attn_ratio: int = 1
    head_scale: bool = False
    qkv_bias: bool = False

    def __post_init__(self) -> None:
        _check(self)

    @property
    def hidden_mv_channels(self) -> int:
        """Multivector channels of one head."""
        return _head_channels(self.in_mv_channels or 0, self.attn_ratio, self.num_heads, 1)

    @property
    def hidden_s_channels(self) -> int:
        """Scalar channels of one head: at least 4, or none if there are no scalars."""
        if self.in_s_channels == 0:
            return 0
        return _head_channels(self.in_s_channels, self.attn_ratio, self.num_heads, 4)


@accepts_legacy(
    "__init__",
    increase_hidden_channels="attn_ratio",
    in_q_mv_channels="q_mv_channels",
    in_kv_mv_channels="kv_mv_channels",
    in_q_s_channels="q_s_channels",
    in_kv_s_channels="kv_s_channels",
)
@dataclass
class CrossAttentionConfig:
    """How a cross-attention layer is built.

    The channel numbers, ``output_init`` and ``dropout_prob`` are set by the block that owns the
    layer; users choose the others.

    Parameters
    ----------
    q_mv_channels, q_s_channels
        Channels that queries are made of.
    kv_mv_channels, kv_s_channels
        Channels that keys and values are made of.
    out_mv_channels, out_s_channels
        Channels of the result.
    output_init, dropout_prob, num_heads, multi_query, attn_ratio, head_scale, qkv_bias
        See :class:`SelfAttentionConfig`.
    head_norm
        Whether queries, keys and values are normalised per head; in lgatr 1.x they were not.
    """

    q_mv_channels: int | None = None
    kv_mv_channels: int | None = None
    out_mv_channels: int | None = None
    out_s_channels: int = 0
    q_s_channels: int = 0
    kv_s_channels: int = 0
    output_init: str = "default"
    dropout_prob: float | None = None
    num_heads: int = 8
    multi_query: bool = False
    attn_ratio: int = 1
    head_scale: bool = False
    qkv_bias: bool = False
    head_norm: bool = True

    def __post_init__(self) -> None:
        _check(self)

    @property
    def hidden_mv_channels(self) -> int:
        """Multivector channels of one head."""
        return _head_channels(self.q_mv_channels or 0, self.attn_ratio, self.num_heads, 1)

    @property
    def hidden_s_channels(self) -> int:
        """Scalar channels of one head: at least 4, or none if the queries have no scalars."""
        if self.q_s_channels == 0:
            return 0
        return _head_channels(self.q_s_channels, self.attn_ratio, self.num_heads, 4)
