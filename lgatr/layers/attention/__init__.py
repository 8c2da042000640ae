"""Attention layers."""

from lgatr.layers.attention.config import CrossAttentionConfig, SelfAttentionConfig
from lgatr.layers.attention.cross_attention import CrossAttention
from lgatr.layers.attention.self_attention import SelfAttention

__all__ = ["CrossAttention", "CrossAttentionConfig", "SelfAttention", "SelfAttentionConfig"]
