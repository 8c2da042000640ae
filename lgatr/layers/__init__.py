"""Layers, as modules over the primitives."""

from lgatr.layers.attention import (
    CrossAttention,
    CrossAttentionConfig,
    SelfAttention,
    SelfAttentionConfig,
)
from lgatr.layers.conditional_lgatr_block import ConditionalLGATrBlock
from lgatr.layers.dropout import GradeDropout
from lgatr.layers.layer_norm import EquiLayerNorm
from lgatr.layers.lgatr_block import LGATrBlock
from lgatr.layers.linear import EquiLinear
from lgatr.layers.mlp import GeometricBilinear, GeoMLP, MLPConfig, ScalarGatedNonlinearity
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
