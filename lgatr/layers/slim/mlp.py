"""The MLP for vectors and scalars."""

from __future__ import annotations

from torch import Tensor, nn

from lgatr.layers.slim.dropout import SlimDropout
from lgatr.layers.slim.glu import SlimGLU
from lgatr.layers.slim.linear import SlimLinear


class SlimMLP(nn.Module):
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

    representations = (("slim vector", "scalar"), ("slim vector", "scalar"))

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
        if num_layers < 2 or mlp_ratio < 1:
            raise ValueError(
                "the slim MLP needs num_layers of at least 2 and mlp_ratio of at least 1, "
                f"not {num_layers} and {mlp_ratio}"
            )
        v, s = mlp_ratio * v_channels, mlp_ratio * s_channels
        layers: list[nn.Module] = []
        for index in range(num_layers - 1):
            v_in, s_in = (v, s) if index else (v_channels, s_channels)
            layers.append(SlimGLU(v_in, v, s_in, s, nonlinearity, nonlinearity_v))
            if dropout_prob is not None:
                layers.append(SlimDropout(dropout_prob))
        layers.append(SlimLinear(v, v_channels, s, s_channels))
        self.layers = nn.ModuleList(layers)

    def forward(self, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(..., 4, C)`` and ``(..., S)`` to the same shapes."""
        for layer in self.layers:
            vectors, scalars = layer(vectors, scalars)
        return vectors, scalars
