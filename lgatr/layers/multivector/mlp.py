"""The geometric MLP."""

from __future__ import annotations

from torch import nn

from lgatr.layers.multivector.base import SectorModule
from lgatr.layers.multivector.bilinear import GeometricBilinear
from lgatr.layers.multivector.dropout import GradeDropout
from lgatr.layers.multivector.gate import ScalarGatedNonlinearity
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.mlp_config import MLPConfig
from lgatr.layout import Sectors
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.primitives.nonlinearities import sector_gated_linear
from lgatr.utils.config import cast_config


class GeoMLP(SectorModule):
    """A bilinear layer, then gates and linear layers.

    Parameters
    ----------
    config
        How the MLP is built.
    primitives
        Of the network.
    """

    def __init__(self, config: MLPConfig, primitives: PrimitivesConfig | None = None) -> None:
        super().__init__()
        config = cast_config(MLPConfig, config)
        primitives = primitives_config(primitives)
        if config.mv_channels is None:
            raise ValueError("MLPConfig needs mv_channels here")
        self.in_mv_channels, self.in_s_channels = config.mv_channels, config.s_channels
        hidden = config.num_layers_mlp - 1
        mv = [config.mv_channels, *[config.mlp_ratio * config.mv_channels] * hidden]
        s = [config.s_channels, *[config.mlp_ratio * config.s_channels] * hidden]
        mv, s = [*mv, config.mv_channels], [*s, config.s_channels]
        layers: list[nn.Module] = []
        for index in range(config.num_layers_mlp):
            mv_in, mv_out, s_in, s_out = mv[index], mv[index + 1], s[index], s[index + 1]
            if index == 0 and primitives.geometric_product:
                layers.append(
                    GeometricBilinear(
                        mv_in, mv_out, primitives, in_s_channels=s_in, out_s_channels=s_out
                    )
                )
            else:
                layers.append(ScalarGatedNonlinearity(config.nonlinearity))
                layers.append(EquiLinear(mv_in, mv_out, primitives, s_in, s_out))
            if config.dropout_prob is not None:
                layers.append(GradeDropout(config.dropout_prob))
        self.layers = nn.ModuleList(layers)

    def forward_sectors(self, x: Sectors) -> Sectors:
        """See :class:`~lgatr.layers.multivector.base.SectorModule`."""
        gate: ScalarGatedNonlinearity | None = None
        for layer in self.layers:
            if isinstance(layer, ScalarGatedNonlinearity):
                gate = layer  # runs with the linear layer behind it
                continue
            assert isinstance(layer, SectorModule)
            if gate is not None and isinstance(layer, EquiLinear):
                functions = gate.function, gate.scalar_function
                x = sector_gated_linear(x, *functions, layer.matrices())
                gate = None
            else:
                x = layer.forward_sectors(x)
        return x
