"""The MLP for vectors and scalars."""

from __future__ import annotations

from torch import Tensor, nn

from lgatr.layers.slim.base import SlimModule
from lgatr.layers.slim.dropout import SlimDropout
from lgatr.layers.slim.glu import SlimGLU
from lgatr.layers.slim.linear import SlimLinear
from lgatr.utils.arguments import check_counts


class SlimMLP(SlimModule):
    """Gated linear units, then one linear layer.

    Parameters
    ----------
    v_channels, s_channels
        Channels, in and out.
    nonlinearity, nonlinearity_v
        See :class:`~lgatr.layers.slim.glu.SlimGLU`.
    mlp_ratio
        Factor between channels and hidden channels.
    num_layers
        Number of layers, at least 2.
    dropout_prob
        Dropout probability after each gated unit, or None.
    """

    def __init__(
        self,
        v_channels: int,
        s_channels: int,
        nonlinearity: str = "gelu",
        nonlinearity_v: str | None = "sigmoid",
        mlp_ratio: int = 2,
        num_layers: int = 2,
        dropout_prob: float | None = None,
    ) -> None:
        super().__init__()
        check_counts(2, num_layers=num_layers)
        check_counts(1, mlp_ratio=mlp_ratio)
        self.in_v_channels, self.in_s_channels = v_channels, s_channels
        v, s = mlp_ratio * v_channels, mlp_ratio * s_channels
        layers: list[nn.Module] = []
        for index in range(num_layers - 1):
            v_in, s_in = (v, s) if index else (v_channels, s_channels)
            layers.append(SlimGLU(v_in, v, s_in, s, nonlinearity, nonlinearity_v))
            if dropout_prob is not None:
                layers.append(SlimDropout(dropout_prob))
        layers.append(SlimLinear(v, v_channels, s, s_channels))
        self.layers = nn.ModuleList(layers)

    def transform(self, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(..., 4, C)`` and ``(..., S)`` to the same shapes."""
        for layer in self.layers:
            assert isinstance(layer, SlimModule)
            vectors, scalars = layer.transform(vectors, scalars)
        return vectors, scalars
