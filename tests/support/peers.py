"""Other people's packages, installed beside the environment and run in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from support import ROOT

HERE = Path(__file__).parent
HOME = ROOT / ".peer"


@cache
def _installed(folder: str, requirements: tuple[str, ...]) -> tuple[Path | None, str]:
    target = HOME / folder
    if target.is_dir():
        return target, ""
    partial = HOME / f"{folder}.partial-{os.getpid()}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", partial]
    try:
        subprocess.run([*pip, *requirements], check=True, capture_output=True, timeout=300)
        partial.rename(target)
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        return (target, "") if target.is_dir() else (None, type(error).__name__)
    return target, ""


def install(folder: str, *requirements: str) -> Path:
    """A folder with these packages; the test is skipped where they cannot be installed."""
    path, reason = _installed(folder, requirements)
    if path is None:
        pytest.skip(f"{', '.join(requirements)} cannot be installed here: {reason}")
    return path


def run(script: str, target: Path, *arguments: Path | str, path: list[Path]) -> dict[str, Any]:
    """Run a script of this folder with ``path`` first on the import path; what it saved."""
    command = [sys.executable, "-W", "ignore", str(HERE / script), str(target)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(target, weights_only=True)


def deviation(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, relative to the largest value where that exceeds one."""
    assert ours.shape == theirs.shape
    if ours.numel() == 0:
        return 0.0
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0))
