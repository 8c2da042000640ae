"""The bilinear layer built on the geometric product."""

from __future__ import annotations

import torch

from lgatr.layers.multivector.base import SectorModule
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layout import Sectors
from lgatr.primitives.bilinear import sector_bilinear
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.primitives.normalization import sector_linear_norm


class GeometricBilinear(SectorModule):
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

    def forward_sectors(self, x: Sectors) -> Sectors:
        """See :class:`~lgatr.layers.multivector.base.SectorModule`."""
        left, right = self.linear_left.matrices(), self.linear_right.matrices()
        product = sector_bilinear(x, left, right, self.bivector)
        if x.s_channels:
            product = product._replace(z=torch.cat([product.z, x.scalars], dim=-1))
        matrices = self.linear_out.matrices()
        return sector_linear_norm(product, matrices, self.norm.epsilon, self.norm.gain)
