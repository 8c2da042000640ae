"""Attention on the backend ``varlen``."""

from lgatr.primitives.attention_backends import attention_by

attention = attention_by("varlen")

__all__ = ["attention"]
