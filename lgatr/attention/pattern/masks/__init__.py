"""Masks: which keys each query may attend to, described once for every backend."""

from lgatr.attention.pattern.masks.bands import Causal, SlidingWindow
from lgatr.attention.pattern.masks.base import And, Band, Mask, MaskMod, Not, Or
from lgatr.attention.pattern.masks.columns import ColumnRanges
from lgatr.attention.pattern.masks.dense import DenseMask
from lgatr.attention.pattern.masks.global_tokens import GlobalTokens
from lgatr.attention.pattern.masks.patterns import Neighbourhood, PrefixLM, ShiftedWindows

__all__ = [
    "And",
    "Band",
    "Causal",
    "ColumnRanges",
    "DenseMask",
    "GlobalTokens",
    "Mask",
    "MaskMod",
    "Neighbourhood",
    "Not",
    "Or",
    "PrefixLM",
    "ShiftedWindows",
    "SlidingWindow",
]
