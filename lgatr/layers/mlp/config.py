"""Under the module path of the reference library."""

from lgatr.layers.multivector.config import MLPConfig

__all__ = ["MLPConfig"]
