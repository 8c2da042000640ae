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


def run(*checks: str, slow: bool, **environment: str) -> None:
    """In a process of its own: Triton decides when it is first imported whether it interprets."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    files = [f"tests/support/{name}.py" for name in checks]
    marks = ["-m", "slow"] if slow else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *marks, *files],
        cwd=ROOT,
        env=dict(os.environ, **environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def equal_the_plain_formulas(*checks: str, slow: bool) -> None:
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    run(*checks, slow=slow, **interpreted)


def test_the_kernels_equal_the_plain_formulas():
    equal_the_plain_formulas(*CHECKS, slow=False)


@pytest.mark.slow(minutes=1)
@pytest.mark.parametrize("checks", CHECKS[:-1])  # the last has no slow ones
def test_the_rest_of_the_checks(checks):
    equal_the_plain_formulas(checks, slow=True)


@pytest.mark.slow(minutes=1)
@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("builds", ["triton_builds", "triton_attention_builds"])
def test_the_kernels_compile(builds, rest, tmp_path):
    run(builds, slow=rest, TRITON_CACHE_DIR=str(tmp_path))
