"""Which torch the library of an installed xFormers belongs to."""

from __future__ import annotations

import importlib
import importlib.resources
import json
from functools import cache

import torch


@cache
def mismatch() -> str | None:
    """Why the package cannot run kernels here although it can be imported, or None.

    Its operators refuse CUDA tensors when its library was built for another CUDA than torch's,
    those included that are torch's own kernels. No public function tells, so a version that keeps
    this elsewhere is taken to work.
    """
    library = importlib.import_module("xformers._cpp_lib")
    if getattr(library, "_built_with_cuda", True):
        return None
    return (
        f"its library was built for {built_for()}, and this is torch {torch.__version__}; install "
        "a pair that belongs together, see python -m xformers.info"
    )


def built_for() -> str:
    """The torch that the library belongs to, as the file beside it says."""
    try:
        place = importlib.resources.files("xformers").joinpath("cpp_lib.json")
        version = json.loads(place.read_text(encoding="utf-8"))["version"]
        return f"torch {version['torch']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another CUDA"
