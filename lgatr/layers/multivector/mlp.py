"""The geometric MLP and its parts: the bilinear layer and the scalar-gated nonlinearity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from lgatr.layers.multivector.base import MultivectorLayer, PointwiseLayer
from lgatr.layers.multivector.config import MLPConfig, MLPSetting, resolved
from lgatr.layers.multivector.dropout import GradeDropout
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors
from lgatr.ops.gate.stage import Gate, GatedLinear
from lgatr.ops.norm.stage import linear_norm
from lgatr.ops.product.stage import bilinear, sector_product
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.utils.arguments import check_counts
from lgatr.utils.config import cast_config
from lgatr.utils.nonlinearities import get_nonlinearities


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
        self.stage = Gate(*get_nonlinearities(nonlinearity))

    @property
    def function(self) -> Callable[[Tensor], Tensor]:
        """Of the scalars of multivectors."""
        return self.stage.function

    @property
    def scalar_function(self) -> Callable[[Tensor], Tensor]:
        """Of the auxiliary scalars."""
        return self.stage.scalar_function

    def forward_hidden(self, x: Sectors) -> Sectors:
        """The layer on hidden states."""
        return Sectors(*self.stage(*x))

    def forward_scalars(self, scalars: Tensor) -> Tensor:
        """The layer on scalars ``(..., S)`` alone."""
        return self.stage.scalar_function(scalars)


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
        check_counts(0, hidden_mv_channels=hidden_mv_channels or 0)
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
        self._product = bilinear(self.linear_left.stage, self.linear_right.stage)
        self._normalised = linear_norm(self.linear_out.stage, self.norm.stage)
        self._seal_fused()

    def forward_hidden(self, x: Sectors) -> Sectors:
        """The layer on hidden states."""
        left, right = self.linear_left.weights(), self.linear_right.weights()
        product = self._completed(Sectors(*self._product(*x, *left, *right)), x)
        return Sectors(*self._normalised(*product, *self.linear_out.weights(), None, None))

    def forward_unfused(self, x: Sectors) -> Sectors:
        """:meth:`forward_hidden`, with each inner layer called."""
        product = sector_product(self.linear_left(x), self.linear_right(x))
        y: Sectors = self.linear_out(self._completed(product, x))
        return y if self.norm is None else self.norm(y)

    def _completed(self, product: Sectors, x: Sectors) -> Sectors:
        """The product without bivectors if so configured, and with the auxiliary scalars of x."""
        if not self.bivector:
            product = product._replace(b=torch.zeros_like(product.b))
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
        self._gated = {
            index: GatedLinear(gate.stage, linear.stage)
            for index, (gate, linear) in enumerate(zip(layers, layers[1:], strict=False))
            if isinstance(gate, ScalarGatedNonlinearity) and isinstance(linear, EquiLinear)
        }
        """A gate and the linear layer behind it as one stage, by the index of the gate."""
        self._seal_fused()

    def forward_hidden(self, x: Sectors) -> Sectors:
        """The layer on hidden states; each gate runs with the linear layer behind it."""
        if is_compiling():
            return self.forward_unfused(x)  # the compiler fuses, and sees which layers there are
        for index, layer in enumerate(self.layers):
            if index in self._gated:
                continue  # a gate, which runs with the next layer
            stage = self._gated.get(index - 1)
            if stage is None:
                x = layer(x)
            else:
                assert isinstance(layer, EquiLinear)
                x = Sectors(*stage(*x, *layer.weights()))
        return x

    def forward_unfused(self, x: Sectors) -> Sectors:
        """:meth:`forward_hidden`, with each inner layer called."""
        for layer in self.layers:
            x = layer(x)
        return x
