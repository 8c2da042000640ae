"""Under the module path of the reference library."""

from lgatr.layers.multivector.dropout import GradeDropout

__all__ = ["GradeDropout"]
