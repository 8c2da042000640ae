"""Layers, as modules over the primitives."""

from lgatr.layers.attention import (
    CrossAttention,
    CrossAttentionConfig,
    SelfAttention,
    SelfAttentionConfig,
)
from lgatr.layers.mlp import GeometricBilinear, GeoMLP, MLPConfig, ScalarGatedNonlinearity
from lgatr.layers.multivector.block import LGATrBlock
from lgatr.layers.multivector.conditional_block import ConditionalLGATrBlock
from lgatr.layers.multivector.dropout import GradeDropout
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.norm import EquiLayerNorm
from lgatr.layers.slim import (
    ConditionalSlimBlock,
    SlimBlock,
    SlimCrossAttention,
    SlimDropout,
    SlimGLU,
    SlimLinear,
    SlimMLP,
    SlimRMSNorm,
    SlimSelfAttention,
)

__all__ = [
    "ConditionalLGATrBlock",
    "ConditionalSlimBlock",
    "CrossAttention",
    "CrossAttentionConfig",
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
    "SlimBlock",
    "SlimCrossAttention",
    "SlimDropout",
    "SlimGLU",
    "SlimLinear",
    "SlimMLP",
    "SlimRMSNorm",
    "SlimSelfAttention",
]
