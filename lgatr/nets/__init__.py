"""Complete networks."""

from lgatr.nets.conditional_lgatr import ConditionalLGATr
from lgatr.nets.conditional_slim import ConditionalLGATrSlim
from lgatr.nets.lgatr import LGATr
from lgatr.nets.slim import LGATrSlim

__all__ = ["ConditionalLGATr", "ConditionalLGATrSlim", "LGATr", "LGATrSlim"]
