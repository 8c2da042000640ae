"""Attention: what may attend to what (packing, spec), and how it is computed (backends)."""

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.dispatch import Attention, prepare_attention
from lgatr.attention.packing import Packing
from lgatr.attention.registry import (
    AttentionFallbackWarning,
    backends,
    choices,
    select_backend,
)
from lgatr.attention.spec import AttentionSpec

__all__ = [
    "Attention",
    "AttentionFallbackWarning",
    "AttentionSpec",
    "Backend",
    "Capabilities",
    "Packing",
    "backends",
    "choices",
    "prepare_attention",
    "select_backend",
]
