"""Attention between heads as a module, under the module path of lgatr 1.x."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lgatr.layers.multivector.config import SelfAttentionConfig
from lgatr.primitives.attention import sdp_attention


class GeometricAttention(nn.Module):
    """:func:`~lgatr.primitives.attention.sdp_attention` as a module without parameters.

    Parameters
    ----------
    config
        Accepted for compatibility.
    """

    def __init__(self, config: SelfAttentionConfig | None = None) -> None:
        super().__init__()

    def forward(
        self,
        q_mv: Tensor,
        k_mv: Tensor,
        v_mv: Tensor,
        q_s: Tensor | None = None,
        k_s: Tensor | None = None,
        v_s: Tensor | None = None,
        **attn_kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention by :func:`~lgatr.primitives.attention.sdp_attention`."""
        return sdp_attention(q_mv, k_mv, v_mv, q_s, k_s, v_s, **attn_kwargs)
