"""Compilation with ``torch.compile``, one block at a time where a network has blocks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


def compiled(
    function: Callable[..., Any],
    compile_kwargs: Mapping[str, Any] | None = None,
    activation_memory_budget: float | None = None,
) -> Callable[..., Any]:
    """``torch.compile(function)``, with the memory budget in force while it compiles.

    Parameters
    ----------
    function
        What to compile.
    compile_kwargs
        For :func:`torch.compile`: ``mode``, ``dynamic``, ``fullgraph``, ``backend`` …
    activation_memory_budget
        Between 0 and 1: which part of the activations the backward pass may keep; the rest is
        computed again. None leaves torch's setting alone.
    """
    # A block's inputs are no leaves; torch looks at their gradients while compiling, and warns.
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    fast = torch.compile(function, **dict(compile_kwargs or {}))
    if activation_memory_budget is None:
        return fast
    if not 0.0 <= activation_memory_budget <= 1.0:
        raise ValueError(
            f"activation_memory_budget must be between 0 and 1, not {activation_memory_budget}"
        )

    def with_budget(*args: Any, **kwargs: Any) -> Any:
        import torch._functorch.config as settings

        with settings.patch(activation_memory_budget=activation_memory_budget):  # type: ignore[attr-defined]
            return fast(*args, **kwargs)

    return with_budget


def compile_model(
    model: nn.Module,
    *,
    compile_kwargs: Mapping[str, Any] | None = None,
    activation_memory_budget: float | None = None,
) -> None:
    """Compile a model in place.

    The networks of this library compile their block once for all its copies, which takes as long
    as one block instead of twelve; any other module has its ``forward`` compiled.

    Parameters
    ----------
    model
        The module.
    compile_kwargs, activation_memory_budget
        See :func:`compiled`.
    """
    options = (compile_kwargs, activation_memory_budget)
    compile_blocks = getattr(model, "compile_blocks", None)
    if callable(compile_blocks):
        compile_blocks(*options)
    else:
        model.forward = compiled(model.forward, *options)


def warmup_after_apply(model: nn.Module) -> None:
    """Accepted for compatibility: the tables of the algebra need no warming here."""
