"""Under the module path of the reference library."""

from lgatr.layers.multivector.cross_attention import CrossAttention

__all__ = ["CrossAttention"]
