"""Attention on the backend ``flash``."""

from lgatr.primitives.attention_backends import attention_by

attention = attention_by("flash")

__all__ = ["attention"]
