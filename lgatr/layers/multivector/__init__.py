"""Layers of the networks on multivectors, with auxiliary scalars.

Legend for all files here: T tokens, C multivector channels, S scalar channels. Public multivectors
are ``(..., T, C, 16)``, scalars ``(..., T, S)``; hidden states are :class:`~lgatr.layout.Sectors`.
"""

from lgatr.layers.multivector.attention import SelfAttention
from lgatr.layers.multivector.block import LGATrBlock
from lgatr.layers.multivector.conditional_block import ConditionalLGATrBlock
from lgatr.layers.multivector.config import CrossAttentionConfig, MLPConfig, SelfAttentionConfig
from lgatr.layers.multivector.cross_attention import CrossAttention
from lgatr.layers.multivector.dropout import GradeDropout
from lgatr.layers.multivector.linear import EquiLinear
from lgatr.layers.multivector.mlp import GeometricBilinear, GeoMLP, ScalarGatedNonlinearity
from lgatr.layers.multivector.norm import EquiLayerNorm

__all__ = [
    "ConditionalLGATrBlock",
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
]
