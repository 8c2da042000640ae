"""Under the module path of the reference library."""

from lgatr.layers.multivector.mlp import GeoMLP

__all__ = ["GeoMLP"]
