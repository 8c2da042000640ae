"""Masks: which keys each query may attend to, described once for every backend."""

from lgatr.attention.masks.bands import Causal, SlidingWindow
from lgatr.attention.masks.base import And, Band, Mask, MaskMod, Not, Or
from lgatr.attention.masks.columns import ColumnRanges
from lgatr.attention.masks.dense import DenseMask
from lgatr.attention.masks.global_tokens import GlobalTokens
from lgatr.attention.masks.patterns import Neighbourhood, PrefixLM, ShiftedWindows

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
