"""Under the module path of the reference library."""

from lgatr.layers.multivector.attention import MultiQueryQKVModule, QKVModule

__all__ = ["MultiQueryQKVModule", "QKVModule"]
