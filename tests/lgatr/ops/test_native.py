"""Building the kernels for CPUs, and living without them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest
import torch

from lgatr import LGATr, Packing
from lgatr.ops._runtime import build as native_build
from lgatr.ops._runtime.choice import forget_choices
from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.utils.cache import warn_once
from support import networks

FAST = "import torch; from lgatr.ops._runtime.cpu import has_native_kernels as has"


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """As in a program that has not built anything yet."""
    monkeypatch.setenv("LGATR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for cached in (native_build.library, warn_once):
        cached.cache_clear()
    forget_choices()
    yield tmp_path
    native_build.library.cache_clear()
    forget_choices()


def fake_compiler(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def result():
    net = networks.build(LGATr, torch.float32)
    x, s = networks.inputs(LGATr, 1, 12, dtype=torch.float32)
    return net(x[0], s[0], packing=Packing.from_lengths([5, 7]))


def compiler():
    if native_build._compiler() is None:
        pytest.skip("no C++ compiler")


def test_the_same_with_and_without(monkeypatch):
    compiler()
    torch.manual_seed(3)
    ours = result()
    monkeypatch.setenv("LGATR_NATIVE", "0")
    assert not has_native_kernels(torch.zeros(1))
    torch.manual_seed(3)
    for a, b in zip(ours, result(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_built_once(fresh, monkeypatch):
    compiler()
    assert has_native_kernels(torch.zeros(1))
    built = sorted((fresh / "cache").iterdir())
    assert [file.suffix for file in built] == [".so", ".sha256"]
    native_build.library.cache_clear()
    real = native_build._run
    commands = []
    monkeypatch.setattr(
        native_build, "_run", lambda c, *a, **k: commands.append(c) or real(c, *a, **k)
    )
    assert has_native_kernels(torch.zeros(1))
    assert not any("-c" in command for command in commands)
    assert sorted((fresh / "cache").iterdir()) == built


@pytest.mark.parametrize("text", ["exit 1", "echo 'no such option' >&2; exit 2", "exit 0"])
def test_a_compiler_that_fails(fresh, monkeypatch, text):
    monkeypatch.setenv("CXX", fake_compiler(fresh / "cxx", text))
    assert not has_native_kernels(torch.zeros(1))
    result()
    assert not list((fresh / "cache").glob("*")), "nothing half-built stays"


def test_no_compiler(fresh, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(fresh))
    assert not has_native_kernels(torch.zeros(1))
    result()


def test_nothing_is_built_on_import(fresh):
    code = "import lgatr"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
    assert not (fresh / "cache").exists()


def test_numbers_that_are_none_stay_so():
    torch.manual_seed(0)
    net = networks.build(LGATr, torch.float32)
    x, s = networks.inputs(LGATr, 1, 12, dtype=torch.float32)
    x = x.detach().clone()
    x[0, 0] = torch.nan
    mv, _ = net(x[0], s[0], packing=Packing.from_lengths([5, 7]))
    assert mv[:5].isnan().all()
    assert mv[5:].isfinite().all()
