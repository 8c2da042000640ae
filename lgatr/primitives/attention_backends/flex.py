"""Attention on the backend ``flex``."""

from lgatr.primitives.attention_backends import attention_by

attention = attention_by("flex")

__all__ = ["attention"]
