"""Fixtures shared by all tests."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support import ROOT
from support.commands import run

# clifford's functions take seconds each to compile; numba reads this when it is first imported.
os.environ["NUMBA_DISABLE_JIT"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first, so that no worker waits for it at the end."""

    def minutes(item: pytest.Item) -> float:
        mark = item.get_closest_marker("slow")
        return 0.0 if mark is None else float(mark.kwargs.get("minutes", 0))

    items.sort(key=minutes, reverse=True)
    for item in items:
        if item.path.parts[len(ROOT.parts) + 1] in ("lgatr", "project"):
            item.add_marker("core")


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


@pytest.fixture(scope="session")
def unused_places(tmp_path_factory) -> Iterator[Path]:
    """Paths of files that do not exist."""
    folder = tmp_path_factory.mktemp("places")
    return (folder / str(number) / "file.json" for number in itertools.count())


@pytest.fixture(autouse=True)
def no_measured_choice(unused_places, monkeypatch) -> None:
    """What a test measured on this machine changes no other test."""
    from lgatr.attention import measured_choice as choice

    place = next(unused_places)
    monkeypatch.setattr(choice, "path", lambda: place)
    choice._measured.cache_clear()


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


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of a run that has ended. Tests that change it take a ``copy``."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ("model=transformer_small", "debug=fast", "optimizer.lr=2e-3", "plots=[]")
    run(*options, f"run_dir={folder}", check=True)
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """A copy of the finished run, in another place."""
    return Path(shutil.copytree(finished, tmp_path / "moved"))
