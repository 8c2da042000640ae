"""Functions of four-vector channels, for the slim networks."""

from lgatr.ops.slim_glu.stage import vector_glu
from lgatr.ops.slim_heads.formula import vector_heads, vectors_from_heads
from lgatr.ops.slim_heads.stage import heads_vector_linear, vector_linear_heads
from lgatr.ops.slim_linear.formula import VectorMatrices, vector_linear
from lgatr.ops.slim_norm.formula import EPSILON, inverse_rms, minkowski_product
from lgatr.ops.slim_norm.stage import vector_rms_norm

__all__ = [
    "EPSILON",
    "VectorMatrices",
    "heads_vector_linear",
    "inverse_rms",
    "minkowski_product",
    "vector_glu",
    "vector_heads",
    "vector_linear",
    "vector_linear_heads",
    "vector_rms_norm",
    "vectors_from_heads",
]
