"""The geometric MLP and its parts."""

from lgatr.layers.mlp.config import MLPConfig
from lgatr.layers.mlp.geometric_bilinears import GeometricBilinear
from lgatr.layers.mlp.mlp import GeoMLP
from lgatr.layers.mlp.nonlinearities import ScalarGatedNonlinearity

__all__ = ["GeoMLP", "GeometricBilinear", "MLPConfig", "ScalarGatedNonlinearity"]
