"""Under the module path of the reference library."""

from lgatr.layers.multivector.mlp import GeometricBilinear

__all__ = ["GeometricBilinear"]
