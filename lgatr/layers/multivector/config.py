"""How attention layers and MLPs are built: what users choose, and what the block decides.

Users choose by a ``Config``, an object or a mapping. The block around a layer decides the rest, a
``Setting``, and never writes into what users gave. Layers that are used alone take their setting
from the fields of the same names in their ``Config``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from lgatr.utils.arguments import check_counts, check_flags, check_probability
from lgatr.utils.config import check_left_out
from lgatr.utils.legacy import accepts_legacy

S = TypeVar("S", "SelfAttentionSetting", "CrossAttentionSetting", "MLPSetting")


@dataclass(frozen=True)
class SelfAttentionSetting:
    """What a block decides about its self-attention layer.

    Parameters
    ----------
    in_mv_channels, out_mv_channels, in_s_channels, out_s_channels
        Channels of the layer.
    additional_qk_mv_channels, additional_qk_s_channels
        Further channels that only enter queries and keys.
    output_init
        Initialization of the output layer, as for
        :class:`~lgatr.layers.multivector.linear.EquiLinear`.
    dropout_prob
        Dropout probability of the output, or None.
    """

    in_mv_channels: int
    out_mv_channels: int
    in_s_channels: int = 0
    out_s_channels: int = 0
    additional_qk_mv_channels: int = 0
    additional_qk_s_channels: int = 0
    output_init: str = "default"
    dropout_prob: float | None = None


@dataclass(frozen=True)
class CrossAttentionSetting:
    """What a block decides about its cross-attention layer.

    Parameters
    ----------
    q_mv_channels, q_s_channels
        Channels that queries are made of.
    kv_mv_channels, kv_s_channels
        Channels that keys and values are made of.
    out_mv_channels, out_s_channels
        Channels of the result.
    output_init, dropout_prob
        As in :class:`SelfAttentionSetting`.
    """

    q_mv_channels: int
    kv_mv_channels: int
    out_mv_channels: int
    out_s_channels: int = 0
    q_s_channels: int = 0
    kv_s_channels: int = 0
    output_init: str = "default"
    dropout_prob: float | None = None


@dataclass(frozen=True)
class MLPSetting:
    """What a block decides about its MLP.

    Parameters
    ----------
    mv_channels, s_channels
        Channels, in and out.
    dropout_prob
        Dropout probability after each layer, or None.
    """

    mv_channels: int
    s_channels: int = 0
    dropout_prob: float | None = None


def resolved(kind: type[S], config: Any, setting: S | None, unused: Sequence[str] = ()) -> S:
    """The setting of a layer with this configuration.

    Parameters
    ----------
    kind
        Class of the setting.
    config
        What the user chose.
    setting
        What the block decided; None for a layer that is used alone, whose ``config`` has it all.
    unused
        Channels that the layer does not look at, and ``config`` may lack.

    Raises
    ------
    ValueError
        If ``config`` contradicts the block, or lacks channels of a layer that is used alone.
    """
    if setting is not None:
        check_left_out(config, **vars(setting))
        return setting
    values = {field.name: getattr(config, field.name) for field in fields(kind)}
    needed = [name for name in values if name.endswith("mv_channels") and "qk" not in name]
    values.update({name: 0 for name in unused if values[name] is None})
    if any(values[name] is None for name in needed):
        raise ValueError(f"{type(config).__name__} needs {', '.join(needed)} here")
    return kind(**values)


def _check(config: SelfAttentionConfig | CrossAttentionConfig) -> None:
    check_counts(1, num_heads=config.num_heads, attn_ratio=config.attn_ratio)
    channels = {k: v for k, v in vars(config).items() if k.endswith("_channels")}
    check_counts(0, **{k: v for k, v in channels.items() if v is not None})
    check_probability("dropout_prob", config.dropout_prob)
    flags = ("multi_query", "head_scale", "qkv_bias", "head_norm")
    check_flags(**{name: value for name, value in vars(config).items() if name in flags})


class _Heads:
    """Channels of one head, in both attention configurations."""

    num_heads: int
    attn_ratio: int

    def head_channels(self, mv_channels: int, s_channels: int) -> tuple[int, int]:
        """Multivector and scalar channels of one head, for these channels of the queries' tokens.

        At least one multivector, and at least four scalars or none if there are no scalars.
        """
        mv = max(mv_channels * self.attn_ratio // self.num_heads, 1)
        s = max(s_channels * self.attn_ratio // self.num_heads, 4)
        return mv, s if s_channels else 0


@accepts_legacy("__init__", increase_hidden_channels="attn_ratio", checkpoint=None)
@dataclass
class SelfAttentionConfig(_Heads):
    """How a self-attention layer is built.

    Parameters
    ----------
    in_mv_channels, out_mv_channels, in_s_channels, out_s_channels
        For layers that are used alone, like the five that follow; in a network they are left out.
    additional_qk_mv_channels, additional_qk_s_channels, output_init, dropout_prob
        As in :class:`SelfAttentionSetting`.
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
        return self.head_channels(self.in_mv_channels or 0, self.in_s_channels)[0]

    @property
    def hidden_s_channels(self) -> int:
        """Scalar channels of one head."""
        return self.head_channels(self.in_mv_channels or 0, self.in_s_channels)[1]


@accepts_legacy(
    "__init__",
    increase_hidden_channels="attn_ratio",
    in_q_mv_channels="q_mv_channels",
    in_kv_mv_channels="kv_mv_channels",
    in_q_s_channels="q_s_channels",
    in_kv_s_channels="kv_s_channels",
)
@dataclass
class CrossAttentionConfig(_Heads):
    """How a cross-attention layer is built.

    Parameters
    ----------
    q_mv_channels, kv_mv_channels, out_mv_channels, out_s_channels, q_s_channels, kv_s_channels
        For layers that are used alone, like the two that follow; in a network they are left out.
    output_init, dropout_prob
        As in :class:`CrossAttentionSetting`.
    num_heads, multi_query, attn_ratio, head_scale, qkv_bias
        As in :class:`SelfAttentionConfig`.
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
        return self.head_channels(self.q_mv_channels or 0, self.q_s_channels)[0]

    @property
    def hidden_s_channels(self) -> int:
        """Scalar channels of one head."""
        return self.head_channels(self.q_mv_channels or 0, self.q_s_channels)[1]


@accepts_legacy(
    "__init__",
    activation="nonlinearity",
    increase_hidden_channels="mlp_ratio",
    num_hidden_layers=("num_layers_mlp", lambda hidden: hidden + 1),
)
@dataclass
class MLPConfig:
    """How a geometric MLP is built.

    Parameters
    ----------
    mv_channels, s_channels, dropout_prob
        For MLPs that are used alone; in a network they are left out.
    nonlinearity
        A name that :class:`~lgatr.layers.multivector.mlp.ScalarGatedNonlinearity` knows.
    mlp_ratio
        Factor between channels and hidden channels.
    num_layers_mlp
        Number of layers, the first of which is bilinear.
    """

    mv_channels: int | None = None
    s_channels: int = 0
    dropout_prob: float | None = None
    nonlinearity: str = "gelu"
    mlp_ratio: int = 4
    num_layers_mlp: int = 2

    def __post_init__(self) -> None:
        check_counts(1, mlp_ratio=self.mlp_ratio, num_layers_mlp=self.num_layers_mlp)
        check_counts(0, mv_channels=self.mv_channels or 0, s_channels=self.s_channels)
        check_probability("dropout_prob", self.dropout_prob)
