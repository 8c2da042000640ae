"""Fixtures shared by all tests."""

from __future__ import annotations

import pytest
import torch

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(autouse=True)
def no_measured_choice(tmp_path, monkeypatch) -> None:
    """What a user measured on this machine changes no test."""
    from lgatr.attention import choice

    monkeypatch.setenv("LGATR_CACHE", str(tmp_path / "cache"))
    choice._table.cache_clear()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
