"""Dense attention in float64, for tests of xFormers' functions."""

from __future__ import annotations

import pytest


@pytest.fixture
def biases():
    return pytest.importorskip("xformers.ops").fmha.attn_bias
