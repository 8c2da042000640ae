"""The CUDA kernels: compiled, and run on a GPU or in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from support import ROOT

CHECKS = [
    ("triton_checks", False),
    pytest.param("triton_checks", True, marks=pytest.mark.slow),
    ("triton_slim_checks", False),
    pytest.param("triton_slim_checks", True, marks=pytest.mark.slow),
    ("triton_split_checks", False),
    ("triton_attention_checks", False),
    pytest.param("triton_attention_checks", True, marks=pytest.mark.slow),
]


def run(checks: str, slow: bool, **environment: str) -> None:
    """In a process of its own: Triton decides when it is first imported whether it interprets."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    file = f"tests/support/{checks}.py"
    marks = ["-m", "slow"] if slow else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *marks, file],
        cwd=ROOT,
        env=dict(os.environ, **environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.parametrize(("checks", "slow"), CHECKS)
def test_the_kernels_equal_the_plain_formulas(checks, slow):
    run(checks, slow, **({} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}))


@pytest.mark.slow
@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("builds", ["triton_builds", "triton_attention_builds"])
def test_the_kernels_compile(builds, rest, tmp_path):
    run(builds, rest, TRITON_CACHE_DIR=str(tmp_path))
