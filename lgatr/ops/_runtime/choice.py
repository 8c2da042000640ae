"""Which implementation of an operation runs: decided once for each device and number format.

Every operation has a formula in plain torch (``formula.py``), and hand-written passes for some
*targets*: C++ or torch's matrix products on CPUs (``cpu.py``), Triton on CUDA GPUs
(``triton.py``). What a target can do stands in :data:`TARGETS` as data. The formula runs wherever
no target fits, and wherever hand-written passes have no meaning: in traced programs, under
autocast, inside of ``torch.func`` transformations and forward-mode derivatives, and for tensors
without elements (see :class:`~lgatr.ops._runtime.stage.Stage`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lgatr.ops._runtime import build

C_NAMES = {torch.float32: "float", torch.float64: "double"}
"""Number formats of the kernels in C++, and their names there."""


class Passes(NamedTuple):
    """The hand-written passes of an operation for one target.

    Parameters
    ----------
    forward
        ``forward(settings, *inputs)`` returns the outputs and what the gradient needs besides
        inputs and outputs, both as tuples of tensors. ``settings`` is the
        :class:`~lgatr.ops._runtime.stage.Stage`.
    backward
        ``backward(settings, inputs, outputs, kept, grads)`` returns the gradient of each input;
        ``outputs`` is empty unless the stage ``needs_outputs``. None where the gradient is that of
        other passes.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any] | None


class Target(NamedTuple):
    """Where hand-written passes run.

    Parameters
    ----------
    name
        As ``python -m lgatr`` prints it.
    module
        The file of an operation with the passes for this target.
    device, dtypes
        Device type and number formats of the tensors.
    problem
        Why it cannot be used on this machine for a format, or None.
    """

    name: str
    module: str
    device: str
    dtypes: tuple[torch.dtype, ...]
    problem: Callable[[torch.dtype], str | None]

    def problem_with(self, device: str, dtype: torch.dtype) -> str | None:
        """Why passes for this target do not run on such tensors, or None."""
        if device != self.device:
            return f"for tensors on {self.device}"
        if dtype not in self.dtypes:
            return "for " + " and ".join(str(d).removeprefix("torch.") for d in self.dtypes)
        return self.problem(dtype)


@cache
def _no_triton() -> str | None:
    try:
        import triton  # noqa: F401
    except ImportError:
        return "Triton is not installed (builds of torch for CUDA bring it along)"
    return None


CPP = Target("C++", "cpu", "cpu", tuple(C_NAMES), lambda dtype: build.problem(C_NAMES[dtype]))
TORCH = Target("torch", "cpu", "cpu", tuple(C_NAMES), lambda _: None)
TRITON = Target("Triton", "triton", "cuda", (torch.float32,), lambda _: _no_triton())
TARGETS = (CPP, TORCH, TRITON)
"""All targets; ``TORCH`` is for operations whose work is done by torch's matrix products."""


class Operation:
    """An operation and the targets for which its folder has passes.

    The passes of operation ``name`` in package ``package`` are the attribute ``NAME`` (upper case)
    of the module ``package.cpu`` or ``package.triton``, which is imported when first chosen.

    Parameters
    ----------
    package
        The operation's folder, as a package.
    name
        Of the operation.
    *targets
        Those that it has passes for.
    otherwise
        What runs elsewhere, as ``python -m lgatr`` prints it.
    """

    all: weakref.WeakSet[Operation] = weakref.WeakSet()

    def __init__(
        self, package: str, name: str, *targets: Target, otherwise: str = "formula"
    ) -> None:
        self.package, self.name, self.targets = package, name, targets
        self.otherwise = otherwise
        self.chosen: dict[Any, Passes | None] = {}
        """Passes by number format (on CPUs), or by device type and format."""
        Operation.all.add(self)

    def choose(self, x: Tensor) -> Passes | None:
        """The passes for tensors like ``x``, or None for the formula."""
        key = x.dtype if x.is_cpu else (x.device.type, x.dtype)
        found = self.chosen.get(key, self)
        if found is self:
            found = self.chosen[key] = self._passes(x.device.type, x.dtype)
        return found  # type: ignore[return-value]

    @staticmethod
    def load_all() -> None:
        """Import the passes for CPUs of all operations, which declare their kernels.

        Operations are known once their stage has been imported, as ``import lgatr`` does.
        """
        for operation in Operation.all:
            import_module(f"{operation.package}.cpu")

    def target(self, device: str, dtype: torch.dtype) -> Target | None:
        """Whose passes run for tensors of a device type and format; None is the formula."""
        fitting = (t for t in self.targets if t.problem_with(device, dtype) is None)
        return next(fitting, None)

    def _passes(self, device: str, dtype: torch.dtype) -> Passes | None:
        target = self.target(device, dtype)
        if target is None:
            return None
        passes: Passes = getattr(
            import_module(f"{self.package}.{target.module}"), self.name.upper()
        )
        return passes


def forget_choices() -> None:
    """Choose anew: after ``LGATR_NATIVE`` was changed, or kernels were built, in this process."""
    for operation in Operation.all:
        operation.chosen.clear()
