"""Small helpers without physics."""

from lgatr.utils.autocast import naive_amp

__all__ = ["naive_amp"]
