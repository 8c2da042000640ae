"""Precision under ``torch.autocast``: what stays in float32, and how to let go of it.

Rounding the components of a vector breaks Lorentz symmetry, the more the larger the boost between
two frames; rounding an invariant does not. So under autocast the networks multiply matrices of
*invariants* (scalars, pseudoscalars, auxiliary scalars) in the reduced format and keep vectors,
bivectors, products, norms and attention in float32. :class:`naive_amp` lifts that rule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])

# A plain module global, not a context variable: torch.compile guards on it instead of breaking.
_naive = False


class naive_amp:
    """Inside the block everything runs in the format of the surrounding autocast.

    Blocks nest, and the state before is restored. Not safe between threads.

    Parameters
    ----------
    enabled
        If False, the block changes nothing.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._before = False

    def __enter__(self) -> naive_amp:
        global _naive
        self._before = _naive
        _naive = _naive or self.enabled
        return self

    def __exit__(self, *exception: object) -> None:
        global _naive
        _naive = self._before


def is_naive() -> bool:
    """Whether a :class:`naive_amp` block is active."""
    return _naive


def keeps_precision(device_type: str) -> bool:
    """Whether autocast is on for the device and the rule above holds."""
    if device_type == "meta":  # has no autocast, and torch raises an error when asked for it
        return False
    return torch.is_autocast_enabled(device_type) and not _naive


def full_precision(device_type: str) -> AbstractContextManager[Any]:
    """A block without autocast, unless :class:`naive_amp` is active."""
    if keeps_precision(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def autocast_dtype(device_type: str = "cuda") -> torch.dtype:
    """The format that autocast would use on ``device_type``."""
    return torch.get_autocast_dtype(device_type)


def _tensors(values: Any) -> list[Tensor]:
    """All floating-point tensors in arguments, containers included."""
    if isinstance(values, Tensor):
        return [values] if values.is_floating_point() else []
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return []
    return [tensor for value in values for tensor in _tensors(value)]


def _cast(values: Any, dtype: torch.dtype, only_below: bool) -> Any:
    """Cast floating-point tensors; with ``only_below`` those of fewer bits than ``dtype``."""
    if isinstance(values, Tensor):
        narrow = torch.finfo(values.dtype).bits < torch.finfo(dtype).bits if only_below else True
        return values.to(dtype) if narrow else values
    return values


def _map(values: Any, dtype: torch.dtype, only_below: bool) -> Any:
    if isinstance(values, Tensor):
        return _cast(values, dtype, only_below) if values.is_floating_point() else values
    if isinstance(values, dict):
        return {key: _map(value, dtype, only_below) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        mapped = [_map(value, dtype, only_below) for value in values]
        if isinstance(values, tuple) and hasattr(values, "_fields"):
            return type(values)(*mapped)
        return type(values)(mapped)
    return values


class minimum_autocast_precision:
    """Decorate a function so that autocast does not go below a precision in it.

    In an autocast region floating-point arguments with fewer bits than ``min_dtype`` are cast to
    it and autocast is off during the call. Outside autocast, and inside :class:`naive_amp`, the
    decorator does nothing.

    Parameters
    ----------
    min_dtype
        The least precise format allowed.
    output
        Format of floating-point results: ``"low"``, the least precise of ``min_dtype`` and the
        arguments' formats; ``"high"``, the most precise of the arguments; a dtype; or None to
        leave them.
    """

    def __init__(
        self,
        min_dtype: torch.dtype = torch.float32,
        output: Literal["low", "high"] | torch.dtype | None = "low",
    ) -> None:
        self.min_dtype, self.output = min_dtype, output

    def cast(self, var: Any) -> Any:
        """Cast the floating-point tensors in ``var`` up to the minimum."""
        return _map(var, self.min_dtype, True)

    def _output_dtype(self, inputs: list[torch.dtype]) -> torch.dtype | None:
        if isinstance(self.output, torch.dtype):
            return self.output
        if self.output is None or not inputs:
            return None
        choose = min if self.output == "low" else max
        pool = [*inputs, self.min_dtype] if self.output == "low" else inputs
        return choose(pool, key=lambda dtype: torch.finfo(dtype).bits)

    def __call__(self, function: F) -> F:
        """Wrap ``function``."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            active = [d for d in ("cpu", "cuda") if torch.is_autocast_enabled(d)]
            if _naive or not active:
                return function(*args, **kwargs)
            dtype = self._output_dtype([t.dtype for t in _tensors([args, kwargs])])
            args, kwargs = self.cast(args), self.cast(kwargs)
            with (
                torch.autocast(active[0], enabled=False),
                torch.autocast(active[-1], enabled=False),
            ):
                out = function(*args, **kwargs)
            return out if dtype is None else _map(out, dtype, False)

        return wrapped  # type: ignore[return-value]
