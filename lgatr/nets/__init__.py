"""Complete networks."""

from lgatr.nets.lgatr import LGATr

__all__ = ["LGATr"]
