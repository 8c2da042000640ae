"""Under the module path of the reference library."""

from lgatr.layers.multivector.mlp_config import MLPConfig

__all__ = ["MLPConfig"]
