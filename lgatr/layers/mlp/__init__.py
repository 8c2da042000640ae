"""The geometric MLP and its parts."""

from lgatr.layers.multivector.config import MLPConfig
from lgatr.layers.multivector.mlp import GeometricBilinear, GeoMLP, ScalarGatedNonlinearity

__all__ = ["GeoMLP", "GeometricBilinear", "MLPConfig", "ScalarGatedNonlinearity"]
