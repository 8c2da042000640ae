"""Configuration of self-attention."""

from __future__ import annotations

from dataclasses import dataclass


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
        Initialization of the output layer; see :class:`~lgatr.layers.linear.EquiLinear`.
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

    def __post_init__(self) -> None:
        for name in ("num_heads", "attn_ratio"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def hidden_mv_channels(self) -> int:
        """Multivector channels of one head."""
        return max((self.in_mv_channels or 0) * self.attn_ratio // self.num_heads, 1)

    @property
    def hidden_s_channels(self) -> int:
        """Scalar channels of one head: at least 4, or none if there are no scalars."""
        if self.in_s_channels == 0:
            return 0
        return max(self.in_s_channels * self.attn_ratio // self.num_heads, 4)
