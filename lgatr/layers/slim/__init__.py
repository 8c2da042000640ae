"""Layers of the slim networks: four-vectors and scalars instead of multivectors.

Legend for all files here: T tokens, C vector channels, S scalar channels. Vectors are
``(..., T, 4, C)`` in the order (E, px, py, pz), scalars ``(..., T, S)`` (arXiv:2512.17011). A
:class:`~lgatr.layout.SlimState` holds both.
"""

from lgatr.layers.slim.attention import SlimSelfAttention
from lgatr.layers.slim.block import SlimBlock
from lgatr.layers.slim.conditional_block import ConditionalSlimBlock
from lgatr.layers.slim.cross_attention import SlimCrossAttention
from lgatr.layers.slim.dropout import SlimDropout
from lgatr.layers.slim.linear import SlimLinear
from lgatr.layers.slim.mlp import SlimGLU, SlimMLP
from lgatr.layers.slim.norm import SlimRMSNorm

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
