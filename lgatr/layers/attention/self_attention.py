"""Under the module path of the reference library."""

from lgatr.layers.multivector.attention import SelfAttention

__all__ = ["SelfAttention"]
