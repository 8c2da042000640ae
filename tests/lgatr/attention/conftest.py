"""Fixtures shared by the tests of attention."""

from __future__ import annotations

import pytest


@pytest.fixture
def biases():
    """xFormers' classes of masks."""
    return pytest.importorskip("xformers.ops").fmha.attn_bias
