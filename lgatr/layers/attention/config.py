"""Under the module path of the reference library."""

from lgatr.layers.multivector.config import CrossAttentionConfig, SelfAttentionConfig

__all__ = ["CrossAttentionConfig", "SelfAttentionConfig"]
