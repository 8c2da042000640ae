"""Layers that make queries, keys and values, used alone."""

from __future__ import annotations

import pytest
import torch

from lgatr.layers.attention import SelfAttentionConfig
from lgatr.layers.attention.qkv import MultiQueryQKVModule, QKVModule


@pytest.mark.parametrize("kind", [QKVModule, MultiQueryQKVModule])
def test_queries_keys_and_values_need_no_output_channels(kind):
    layer = kind(SelfAttentionConfig(in_mv_channels=2, num_heads=2))
    q, _, _, *scalars = layer(torch.randn(5, 2, 16))
    assert q.shape == (2, 5, 1, 16) and scalars == [None] * 3
