"""Under the module path of the reference library."""

from lgatr.layers.multivector.block import LGATrBlock

__all__ = ["LGATrBlock"]
