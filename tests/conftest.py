"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(autouse=True, scope="session")
def own_cache(pytestconfig: pytest.Config) -> Iterator[None]:
    """Kernels are built once for all tests, the programs that they start, and later test runs.

    A library is named by a hash of its sources, flags and compiler, so none is ever out of date.
    """
    cache = pytestconfig.rootpath / ".pytest_cache" / "lgatr"
    cache.mkdir(parents=True, exist_ok=True)
    for measured in cache.glob("*.json"):
        measured.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LGATR_CACHE", str(cache))
        yield


@pytest.fixture(autouse=True)
def no_measured_choice(tmp_path, monkeypatch) -> None:
    """What a user measured on this machine changes no test."""
    from lgatr.attention import measured_choice as choice

    monkeypatch.setattr(choice, "path", lambda: tmp_path / "cache" / "attention.json")
    choice._measured.cache_clear()


@pytest.fixture(autouse=True)
def matrix_products_of_large_batches(monkeypatch) -> None:
    """Tests are small; what they prove shall hold for the products of real batches."""
    from lgatr.ops._runtime import matmul

    monkeypatch.setattr(matmul, "_SMALLEST", 1 << 15)


@pytest.fixture(params=["native", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to compute on a CPU."""
    from lgatr.ops._runtime.choice import forget_choices
    from lgatr.ops._runtime.cpu import has_native_kernels

    forget_choices()
    request.addfinalizer(forget_choices)
    if request.param == "torch":
        monkeypatch.setenv("LGATR_NATIVE", "0")
    elif not has_native_kernels(torch.zeros(1)):
        pytest.skip("no C++ compiler")
    return request.param


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
