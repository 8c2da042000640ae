"""Under the module path of the reference library."""

from lgatr.layers.multivector.mlp import ScalarGatedNonlinearity

__all__ = ["ScalarGatedNonlinearity"]
