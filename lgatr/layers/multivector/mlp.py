"""The geometric MLP and its parts: the bilinear layer and the scalar-gated nonlinearity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lgatr.layers.multivector.base import MultivectorLayer, PointwiseLayer
from lgatr.layers.multivector.config import MLPConfig, MLPSetting, resolved
from lgatr.layers.multivector.dropout import GradeDropout
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors
from lgatr.primitives.bilinear import sector_bilinear, sector_product
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.primitives.nonlinearities import get_nonlinearity, sector_gate, sector_gated_linear
from lgatr.primitives.normalization import sector_linear_norm
from lgatr.utils.config import cast_config


class ScalarGatedNonlinearity(PointwiseLayer):
    r""":math:`x \mapsto f(\langle x \rangle_0)\,x`; auxiliary scalars become :math:`f(s)`.

    Parameters
    ----------
    nonlinearity
        ``"relu"``, ``"sigmoid"``, ``"tanh"``, ``"gelu"`` (tanh form), ``"gelu_exact"`` (error
        function) or ``"silu"``; ``"gelu_lgatr1"`` gates by the tanh form and uses the error
        function for auxiliary scalars, as lgatr 1.x did.
    """

    def __init__(self, nonlinearity: str = "gelu") -> None:
        super().__init__()
        mixed = nonlinearity == "gelu_lgatr1"
        self.function = get_nonlinearity("gelu" if mixed else nonlinearity)
        self.scalar_function = get_nonlinearity("gelu_exact") if mixed else self.function

    def forward_hidden(self, x: Sectors) -> Sectors:
        """The layer on hidden states."""
        return sector_gate(x, self.function, self.scalar_function)

    def forward_scalars(self, scalars: Tensor) -> Tensor:
        """The layer on scalars ``(..., S)`` alone."""
        return self.scalar_function(scalars)


class GeometricBilinear(MultivectorLayer):
    """Two linear maps, the geometric product of their results, a linear map, and a norm.

    Parameters
    ----------
    in_mv_channels, out_mv_channels
        Multivector channels.
    primitives
        Of the network.
    hidden_mv_channels
        Channels of the product; None means ``out_mv_channels``.
    in_s_channels, out_s_channels
        Scalar channels.
    """

    fused = ("linear_left", "linear_right", "linear_out", "norm")

    def __init__(
        self,
        in_mv_channels: int,
        out_mv_channels: int,
        primitives: PrimitivesConfig | None = None,
        hidden_mv_channels: int | None = None,
        in_s_channels: int = 0,
        out_s_channels: int = 0,
    ) -> None:
        super().__init__()
        self.in_mv_channels, self.in_s_channels = in_mv_channels, in_s_channels
        primitives = primitives_config(primitives)
        hidden = hidden_mv_channels or out_mv_channels
        self.bivector = primitives.bivector
        self.linear_left = EquiLinear(
            in_mv_channels, hidden, primitives, in_s_channels=in_s_channels
        )
        self.linear_right = EquiLinear(
            in_mv_channels,
            hidden,
            primitives,
            in_s_channels=in_s_channels,
            initialization="almost_unit_scalar",
        )
        self.linear_out = EquiLinear(
            hidden,
            out_mv_channels,
            primitives,
            in_s_channels=in_s_channels,
            out_s_channels=out_s_channels,
        )
        self.norm = EquiLayerNorm()

    def forward_hidden(self, x: Sectors) -> Sectors:
        """The layer on hidden states."""
        left, right = self.linear_left.matrices(), self.linear_right.matrices()
        product = self._with_scalars(sector_bilinear(x, left, right, self.bivector), x)
        norm, matrices = self.norm, self.linear_out.matrices()
        return sector_linear_norm(product, matrices, norm.epsilon, norm.gain)

    def forward_unfused(self, x: Sectors) -> Sectors:
        """:meth:`forward_hidden`, with each inner layer called."""
        product = sector_product(self.linear_left(x), self.linear_right(x), self.bivector)
        y: Sectors = self.norm(self.linear_out(self._with_scalars(product, x)))
        return y

    @staticmethod
    def _with_scalars(product: Sectors, x: Sectors) -> Sectors:
        scalars = x.z[..., x.v.shape[-1] :]
        if not scalars.shape[-1]:
            return product
        return Sectors(torch.cat([product.z, scalars], dim=-1), product.v, product.b)


class GeoMLP(MultivectorLayer):
    """A bilinear layer, then gates and linear layers.

    Parameters
    ----------
    config
        How the MLP is built.
    primitives
        Of the network.
    setting
        What the block around the MLP decides; None takes it from ``config``.
    """

    fused = ("layers",)

    def __init__(
        self,
        config: MLPConfig,
        primitives: PrimitivesConfig | None = None,
        setting: MLPSetting | None = None,
    ) -> None:
        super().__init__()
        config = cast_config(MLPConfig, config)
        primitives = primitives_config(primitives)
        setting = resolved(MLPSetting, config, setting)
        mv, s, hidden = setting.mv_channels, setting.s_channels, config.num_layers_mlp - 1
        self.in_mv_channels, self.in_s_channels = mv, s
        mv_widths = [mv, *[config.mlp_ratio * mv] * hidden, mv]
        s_widths = [s, *[config.mlp_ratio * s] * hidden, s]
        layers: list[nn.Module] = []
        for index in range(config.num_layers_mlp):
            mv_in, mv_out = mv_widths[index : index + 2]
            s_in, s_out = s_widths[index : index + 2]
            if index == 0 and primitives.geometric_product:
                layers.append(
                    GeometricBilinear(
                        mv_in, mv_out, primitives, in_s_channels=s_in, out_s_channels=s_out
                    )
                )
            else:
                layers.append(ScalarGatedNonlinearity(config.nonlinearity))
                layers.append(EquiLinear(mv_in, mv_out, primitives, s_in, s_out))
            if setting.dropout_prob is not None:
                layers.append(GradeDropout(setting.dropout_prob))
        self.layers = nn.ModuleList(layers)

    def forward_hidden(self, x: Sectors) -> Sectors:
        """The layer on hidden states; each gate runs with the linear layer behind it."""
        gate: ScalarGatedNonlinearity | None = None
        for layer in self.layers:
            if isinstance(layer, ScalarGatedNonlinearity):
                gate = layer
            elif gate is not None and isinstance(layer, EquiLinear):
                x = sector_gated_linear(x, gate.function, gate.scalar_function, layer.matrices())
                gate = None
            else:
                x = layer(x)
        return x

    def forward_unfused(self, x: Sectors) -> Sectors:
        """:meth:`forward_hidden`, with each inner layer called."""
        for layer in self.layers:
            x = layer(x)
        return x
