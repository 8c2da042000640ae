"""The operators of an installed xFormers, and which torch its library belongs to."""

from __future__ import annotations

import importlib
import importlib.resources
import json
import logging
from functools import cache
from typing import Any

import torch


def operations() -> Any:
    """The module ``xformers.ops``, imported quietly.

    On a machine without CUDA the package warns on import about its missing extension; the registry
    says in one line what happens instead.
    """
    logger = logging.getLogger("xformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import xformers.ops as ops
    finally:
        logger.setLevel(level)
    return ops


@cache
def mismatch() -> str | None:
    """Why the package cannot run kernels here although it can be imported, or None.

    Its operators refuse CUDA tensors when its library was built for another CUDA than torch's,
    those included that are torch's own kernels. No public function tells, so a version that keeps
    this elsewhere is taken to work.
    """
    operations()  # the quiet import comes first
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
