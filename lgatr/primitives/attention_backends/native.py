"""Attention on the backend ``native``."""

from lgatr.primitives.attention_backends import attention_by

attention = attention_by("native")

__all__ = ["attention"]
