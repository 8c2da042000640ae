"""Configuration of the geometric MLP."""

from __future__ import annotations

from dataclasses import dataclass

from lgatr.utils.arguments import check_counts, check_probability
from lgatr.utils.legacy import accepts_legacy


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
        Set by the block that owns the MLP.
    nonlinearity
        See :class:`~lgatr.layers.multivector.gate.ScalarGatedNonlinearity`.
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
