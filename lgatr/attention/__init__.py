"""Attention: what may attend to what, and which backend computes it.

:mod:`~lgatr.attention.pattern` describes an attention pattern: events, masks, scores.
:mod:`~lgatr.attention.backends` compute it, each by a ``plan`` per forward pass and an ``attend``
per layer. :mod:`~lgatr.attention.tools` list and time backends. The way of a forward pass:

1. :mod:`~lgatr.attention.prepare` reads keyword arguments into an ``AttentionSpec``,
2. :mod:`~lgatr.attention.registry` chooses a backend for it,
3. :mod:`~lgatr.attention.prepared` holds pattern, backend and plan, and is called by every layer.
"""

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.cache import PagedCache
from lgatr.attention.memory_efficient import (
    memory_efficient_attention,
    memory_efficient_attention_backward,
    memory_efficient_attention_forward,
    memory_efficient_attention_forward_requires_grad,
    memory_efficient_attention_partial,
)
from lgatr.attention.merge import merge_attentions
from lgatr.attention.partial import partial_attention
from lgatr.attention.pattern.key_storage import GappyKeys, KeyStorage, PaddedKeys, PagedKeys
from lgatr.attention.pattern.masks import (
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
from lgatr.attention.pattern.packing import BoundedPacking, Packing
from lgatr.attention.pattern.scores import (
    ALiBi,
    Bias,
    DenseBias,
    PairwiseBias,
    RelativePosition,
    ScoreMod,
    ScoreModFunction,
    SoftCap,
)
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.attention.prepare import prepare_attention
from lgatr.attention.prepared import Attention
from lgatr.attention.registry import (
    AttentionFallbackWarning,
    backends,
    choices,
    select_backend,
)

__all__ = [
    "ALiBi",
    "Attention",
    "AttentionFallbackWarning",
    "AttentionSpec",
    "Backend",
    "Bias",
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
