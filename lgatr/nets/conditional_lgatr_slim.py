"""The conditional slim network and its layers under the module path and names of lgatr 1.x."""

from lgatr.layers.slim import ConditionalSlimBlock as ConditionalLGATrSlimBlock
from lgatr.layers.slim import SlimCrossAttention as CrossAttention
from lgatr.nets.conditional_slim import ConditionalLGATrSlim
from lgatr.nets.lgatr_slim import MLP, Dropout, Linear, RMSNorm, SelfAttention

__all__ = [
    "MLP",
    "ConditionalLGATrSlim",
    "ConditionalLGATrSlimBlock",
    "CrossAttention",
    "Dropout",
    "Linear",
    "RMSNorm",
    "SelfAttention",
]
