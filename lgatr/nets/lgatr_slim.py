"""The slim network and its layers under the module path and the names of lgatr 1.x."""

from lgatr.layers.slim import SlimBlock as LGATrSlimBlock
from lgatr.layers.slim import SlimDropout as Dropout
from lgatr.layers.slim import SlimGLU as GatedLinearUnit
from lgatr.layers.slim import SlimLinear as Linear
from lgatr.layers.slim import SlimMLP as MLP
from lgatr.layers.slim import SlimRMSNorm as RMSNorm
from lgatr.layers.slim import SlimSelfAttention as SelfAttention
from lgatr.nets.slim import LGATrSlim

__all__ = [
    "MLP",
    "Dropout",
    "GatedLinearUnit",
    "LGATrSlim",
    "LGATrSlimBlock",
    "Linear",
    "RMSNorm",
    "SelfAttention",
]
