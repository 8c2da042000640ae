"""Pure functions on multivectors. Public ones take ``(..., 16)``; ``sector_*`` take sectors."""

from lgatr.primitives.attention import scaled_dot_product_attention, sdp_attention
from lgatr.primitives.bilinear import geometric_product
from lgatr.primitives.config import PrimitivesConfig
from lgatr.primitives.dropout import grade_dropout
from lgatr.primitives.invariants import abs_squared_norm, inner_product
from lgatr.primitives.linear import equi_linear, grade_involute, grade_project, reverse
from lgatr.primitives.nonlinearities import gated_gelu, gated_relu, gated_sigmoid, gated_silu
from lgatr.primitives.normalization import equi_layer_norm

__all__ = [
    "PrimitivesConfig",
    "abs_squared_norm",
    "equi_layer_norm",
    "equi_linear",
    "gated_gelu",
    "gated_relu",
    "gated_sigmoid",
    "gated_silu",
    "geometric_product",
    "grade_dropout",
    "grade_involute",
    "grade_project",
    "inner_product",
    "reverse",
    "scaled_dot_product_attention",
    "sdp_attention",
]
