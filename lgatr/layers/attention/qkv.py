"""Under the module path of the reference library."""

from lgatr.layers.multivector.qkv import MultiQueryQKVModule, QKVModule

__all__ = ["MultiQueryQKVModule", "QKVModule"]
