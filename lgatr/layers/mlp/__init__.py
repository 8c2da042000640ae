"""The geometric MLP and its parts."""

from lgatr.layers.multivector.bilinear import GeometricBilinear
from lgatr.layers.multivector.gate import ScalarGatedNonlinearity
from lgatr.layers.multivector.mlp import GeoMLP
from lgatr.layers.multivector.mlp_config import MLPConfig

__all__ = ["GeoMLP", "GeometricBilinear", "MLPConfig", "ScalarGatedNonlinearity"]
