"""Under the module path of the reference library."""

from lgatr.layers.multivector.linear import EquiLinear

__all__ = ["EquiLinear"]
