"""Attention on the backend ``xformers``."""

from lgatr.primitives.attention_backends import attention_by

attention = attention_by("xformers")

__all__ = ["attention"]
