"""Layers, as modules over the primitives."""

from lgatr.layers.attention import SelfAttention, SelfAttentionConfig
from lgatr.layers.dropout import GradeDropout
from lgatr.layers.layer_norm import EquiLayerNorm
from lgatr.layers.lgatr_block import LGATrBlock
from lgatr.layers.linear import EquiLinear
from lgatr.layers.mlp import GeometricBilinear, GeoMLP, MLPConfig, ScalarGatedNonlinearity

__all__ = [
    "EquiLayerNorm",
    "EquiLinear",
    "GeoMLP",
    "GeometricBilinear",
    "GradeDropout",
    "LGATrBlock",
    "MLPConfig",
    "ScalarGatedNonlinearity",
    "SelfAttention",
    "SelfAttentionConfig",
]
