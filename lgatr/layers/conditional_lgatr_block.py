"""Under the module path of the reference library."""

from lgatr.layers.multivector.conditional_block import ConditionalLGATrBlock

__all__ = ["ConditionalLGATrBlock"]
