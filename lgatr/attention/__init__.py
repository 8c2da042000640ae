"""Attention: what may attend to what (packing, masks, scores), and who computes it (backends)."""

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.cache import PagedCache
from lgatr.attention.dispatch import Attention, prepare_attention
from lgatr.attention.keys import GappyKeys, KeyStorage, PaddedKeys, PagedKeys
from lgatr.attention.masks import (
    Causal,
    ColumnRanges,
    DenseMask,
    GlobalTokens,
    Mask,
    MaskMod,
    Neighbourhood,
    PrefixLM,
    ShiftedWindows,
    SlidingWindow,
)
from lgatr.attention.memory_efficient import (
    memory_efficient_attention,
    memory_efficient_attention_backward,
    memory_efficient_attention_forward,
    memory_efficient_attention_forward_requires_grad,
    memory_efficient_attention_partial,
)
from lgatr.attention.packing import BoundedPacking, Packing
from lgatr.attention.partial import merge_attentions, partial_attention
from lgatr.attention.registry import (
    AttentionFallbackWarning,
    backends,
    choices,
    select_backend,
)
from lgatr.attention.scores import (
    ALiBi,
    DenseBias,
    PairwiseBias,
    RelativePosition,
    ScoreMod,
    ScoreModFunction,
    SoftCap,
)
from lgatr.attention.spec import AttentionSpec

__all__ = [
    "ALiBi",
    "Attention",
    "AttentionFallbackWarning",
    "AttentionSpec",
    "Backend",
    "Capabilities",
    "Causal",
    "ColumnRanges",
    "DenseBias",
    "DenseMask",
    "GappyKeys",
    "GlobalTokens",
    "KeyStorage",
    "Mask",
    "MaskMod",
    "Neighbourhood",
    "BoundedPacking",
    "Packing",
    "PaddedKeys",
    "PagedCache",
    "PagedKeys",
    "PairwiseBias",
    "PrefixLM",
    "RelativePosition",
    "ScoreMod",
    "ScoreModFunction",
    "ShiftedWindows",
    "SlidingWindow",
    "SoftCap",
    "backends",
    "choices",
    "memory_efficient_attention",
    "memory_efficient_attention_backward",
    "memory_efficient_attention_forward",
    "memory_efficient_attention_forward_requires_grad",
    "memory_efficient_attention_partial",
    "merge_attentions",
    "partial_attention",
    "prepare_attention",
    "select_backend",
]
