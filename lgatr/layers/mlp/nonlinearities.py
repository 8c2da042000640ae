"""Under the module path of the reference library."""

from lgatr.layers.multivector.gate import ScalarGatedNonlinearity

__all__ = ["ScalarGatedNonlinearity"]
