"""The CUDA kernels: compiled, and run on a GPU or in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from support import ROOT


def run(checks: str, **environment: str) -> None:
    """In a process of its own: Triton decides when it is first imported whether it interprets."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    file = f"tests/support/{checks}.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        cwd=ROOT,
        env=dict(os.environ, **environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_the_kernels_equal_the_plain_formulas():
    run("triton_checks", **({} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}))


def test_the_kernels_compile(tmp_path):
    run("triton_builds", TRITON_CACHE_DIR=str(tmp_path))
