"""Attention layers."""

from lgatr.layers.multivector.attention import SelfAttention
from lgatr.layers.multivector.config import CrossAttentionConfig, SelfAttentionConfig
from lgatr.layers.multivector.cross_attention import CrossAttention

__all__ = ["CrossAttention", "CrossAttentionConfig", "SelfAttention", "SelfAttentionConfig"]
