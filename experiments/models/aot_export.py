"""Compile a tagger ahead of time (AOTInductor), for C++ programs without Python."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from experiments.errors import UserError
from experiments.models.onnx_export import example_inputs
from experiments.models.onnx_padded_tagger import PaddedTagger

PACKAGE = "tagger.pt2"
_EXAMPLE = (3, 7)
_CHECKS = ((2, 2), (2, 30), (64, 50), (5, 120))


def write_package(tagger: PaddedTagger, path: Path) -> None:
    """Write the tagger as a package with any number of jets and particles, two or more of each.

    Raises
    ------
    UserError
        If there is no compiler, or the network does not compile.
    """
    jets = torch.export.Dim("jets", min=2, max=1 << 20)
    particles = torch.export.Dim("particles", min=2, max=tagger.max_particles or 1 << 14)
    inputs = example_inputs(tagger, *_EXAMPLE, seed=0)
    sizes: Any = {0: jets, 1: particles}
    shapes = (sizes, (sizes,) * len(tagger.columns)) if tagger.columns else (sizes,)
    quiet = io.StringIO()
    logging.getLogger("torch._inductor").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                program = torch.export.export(
                    tagger, tuple(inputs.values()), dynamic_shapes=shapes, strict=False
                )
                torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:  # the compilers of torch and of the system raise anything
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise UserError(f"the network does not compile ahead of time: {reason}") from error


def package_deviation(tagger: PaddedTagger, path: Path) -> float:
    """Largest difference of logits between the package and torch, for several sizes of jets."""
    compiled: Any = torch._inductor.aoti_load_package(str(path))
    worst = 0.0
    for seed, shape in enumerate(_CHECKS):
        inputs = tuple(example_inputs(tagger, *shape, seed).values())
        with torch.no_grad():
            difference = compiled(*inputs) - tagger(*inputs)
        worst = max(worst, float(difference.abs().max()))
    return worst
