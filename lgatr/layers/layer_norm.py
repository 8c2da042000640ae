"""Under the module path of the reference library."""

from lgatr.layers.multivector.norm import EquiLayerNorm

__all__ = ["EquiLayerNorm"]
