"""The CUDA kernels: compiled, and run on a GPU or in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from support import ROOT

CHECKS = (
    "triton_checks", "triton_linear_checks", "triton_slim_checks", "triton_attention_checks",
    "triton_split_checks",
)  # fmt: skip

INTERPRETED = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
USUAL, SLOW = "not slow", "slow"


def run(*checks: str, marks: str = USUAL, **environment: str) -> None:
    """In a process of its own: Triton decides when it is first imported whether it interprets."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    files = [f"tests/support/{name}.py" for name in checks]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks, *files],
        cwd=ROOT,
        env=dict(os.environ, **environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_the_kernels_equal_the_plain_formulas():
    run(*CHECKS, **INTERPRETED)


@pytest.mark.slow(minutes=1)
@pytest.mark.parametrize("checks", CHECKS[:-1])  # the last has no slow ones
def test_the_rest_of_the_checks(checks):
    run(checks, marks=SLOW, **INTERPRETED)


@pytest.mark.slow(minutes=1)
@pytest.mark.parametrize("marks", [USUAL, SLOW])
@pytest.mark.parametrize("builds", ["triton_builds", "triton_attention_builds"])
def test_the_kernels_compile(builds, marks, tmp_path):
    run(builds, marks=marks, TRITON_CACHE_DIR=str(tmp_path))
