"""Attention layers."""

from lgatr.layers.attention.config import SelfAttentionConfig
from lgatr.layers.attention.self_attention import SelfAttention

__all__ = ["SelfAttention", "SelfAttentionConfig"]
