"""The slim layers under the module path of the reference library."""

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
    "ConditionalSlimBlock",
    "SlimBlock",
    "SlimCrossAttention",
    "SlimDropout",
    "SlimGLU",
    "SlimLinear",
    "SlimMLP",
    "SlimRMSNorm",
    "SlimSelfAttention",
]
