"""Layers: on multivectors in :mod:`.multivector`, on vectors and scalars in :mod:`.slim`.

The other modules here hold names where the reference library has them.
"""

from lgatr.layers.multivector import (
    ConditionalLGATrBlock,
    CrossAttention,
    CrossAttentionConfig,
    EquiLayerNorm,
    EquiLinear,
    GeometricBilinear,
    GeoMLP,
    GradeDropout,
    LGATrBlock,
    MLPConfig,
    ScalarGatedNonlinearity,
    SelfAttention,
    SelfAttentionConfig,
)
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
