"""Under the module path of the reference library."""

from lgatr.layers.multivector.bilinear import GeometricBilinear

__all__ = ["GeometricBilinear"]
