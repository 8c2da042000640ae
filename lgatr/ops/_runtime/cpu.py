"""Calls of the kernels in C++, where there is a compiler for them.

An operation declares its kernels beside its C++ file: ``NORM = kernel("norm", {"x": STATE, ...})``
for the function ``lgatr_norm``. :func:`kernel` returns a Python function with these arguments that
checks them all and calls the C++ function. All take tensors without gradients.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lgatr.ops._runtime.arguments import Argument, Real, Size, pack_heads, pack_state
from lgatr.ops._runtime.build import is_wanted, library
from lgatr.ops._runtime.choice import C_NAMES

# As in common.h.
_PROBLEMS: dict[int, tuple[type[Exception], str]] = {
    1: (ValueError, "offsets of queries must rise from 0 to the number of queries"),
    2: (ValueError, "offsets of keys must rise from 0 to the number of keys"),
    3: (MemoryError, "no memory for the scores of an event"),
    4: (ValueError, "a table of a mask has an entry for each score, and one for each tile"),
}
PIECES = 16
"""Of the tokens, in sums over them: a fixed number, whatever the number of threads."""

KERNELS: dict[str, Kernel] = {}
"""All kernels by name, as soon as their operations are imported."""


def has_native_kernels(x: Tensor) -> bool:
    """Whether ``x`` lies on a CPU, in a format of the kernels, and these are built."""
    return (
        x.is_cpu
        and not torch.compiler.is_compiling()
        and x.dtype in C_NAMES
        and is_wanted()
        and library(C_NAMES[x.dtype]) is not None
    )


class Kernel:
    """One kernel in C++ and what it takes.

    A tensor's shape is written in the names of the sizes, and compared with what the sizes of a
    call make of it; so a kernel never sees a size that one of its tensors has not.

    Parameters
    ----------
    name
        Without ``lgatr_``.
    arguments
        By name, in order.
    fallible
        Whether it returns a status; others cannot fail once their arguments are checked.
    """

    def __init__(self, name: str, arguments: dict[str, Argument], fallible: bool = False) -> None:
        self.name, self.arguments, self.fallible = name, arguments, fallible
        self.functions: dict[torch.dtype, Any] = {}
        """The C++ functions that were called already, by number format."""
        indexed = [(i, key, kind) for i, (key, kind) in enumerate(arguments.items())]
        self._numbers = [x for x in indexed if isinstance(x[2], (Size, Real))]
        self._tensors = [x for x in indexed if not isinstance(x[2], (Size, Real))]
        shapes = ", ".join(kind.shapes() for _, _, kind in self._tensors)
        # The table's own expressions as one function: a call only fills in its sizes.
        self.wanted: Callable[..., tuple[tuple[Any, ...], int]] = eval(
            f"lambda {', '.join(arguments)}: (({shapes},), {self._elements()})"
        )
        self.source = self._source()
        """The function that checks and calls."""
        names: dict[str, Any] = {
            "functions": self.functions, "load": self.load, "carefully": self.carefully,
            "failed": self.failed, "pack_state": pack_state, "pack_heads": pack_heads,
            "inf": math.inf, "torch": torch,
        }  # fmt: skip
        exec(compile(self.source, f"<kernel {name}>", "exec"), names)
        self.run: Callable[..., None] = names[name]
        """Call the kernel: a tensor of its number format, then the arguments in order."""

    def _elements(self) -> str:
        written = [kind.elements() for _, _, kind in self._tensors if kind.written]
        return " + ".join(f"({x})" for x in written)

    def _source(self) -> str:
        names = ", ".join(self.arguments)
        found = [kind.fast(key) for key, kind in self.arguments.items()]
        lines = [line for x in found for line in x.lines]
        # Sizes first: shapes are written in them.
        checks = [c for i, _, _ in (*self._numbers, *self._tensors) for c in found[i].checks]
        return "\n".join(
            [
                f"def {self.name}(like, {names}):",
                "    real = like.dtype",
                "    function = functions.get(real) or load(real)",
                "    try:",
                *(f"        {line}" for line in lines),
                "        fine = (",
                *(f"            {check} and" for check in checks),
                f"            {self._elements()}",
                "        )",
                "    except Exception:",
                "        fine = False",
                "    if not fine:",
                f"        return carefully(real, ({names}))",
                f"    status = function({', '.join(x.address for x in found)})",
                *(["    if status:", "        failed(status)"] if self.fallible else []),
            ]
        )

    def load(self, dtype: torch.dtype) -> Any:
        """The C++ function for a number format; ``ValueError`` if there is none."""
        if dtype not in C_NAMES:
            raise ValueError(
                f"kernel {self.name}: no kernels for {dtype}; wanted float32 or float64"
            )
        kernels = library(C_NAMES[dtype])
        if kernels is None:
            raise RuntimeError("the CPU kernels are not built; ask has_native_kernels first")
        function = kernels[f"lgatr_{self.name}"]
        function.argtypes = [kind.c_type for kind in self.arguments.values()]
        function.restype = ctypes.c_int if self.fallible else None
        self.functions[dtype] = function
        return function

    def carefully(self, real: torch.dtype, given: tuple[Any, ...]) -> None:
        """Call the kernel with arguments that are right but unusual.

        Raises
        ------
        ValueError, TypeError
            If one of them is not what the kernel takes; it names the argument.
        """
        found, i = list(given), 0
        try:
            for number in self._numbers:
                i, _, kind = number
                found[i] = kind.converted(given[i], None, real)
            shapes, elements = self.wanted(*given)
            for tensor, want in zip(self._tensors, shapes, strict=True):
                i, _, kind = tensor
                found[i] = kind.converted(given[i], want, real)
        except (ValueError, TypeError) as error:
            name = list(self.arguments)[i]
            raise type(error)(f"kernel {self.name}: {name} {error}") from None
        if elements:
            status = self.functions[real](*found)
            if status:
                self.failed(status)

    def failed(self, status: int) -> None:
        """Raise what a status means."""
        kind, text = _PROBLEMS[status]
        raise kind(f"kernel {self.name}: {text}")


def kernel(
    name: str, arguments: dict[str, Argument], fallible: bool = False
) -> Callable[..., None]:
    """Declare a kernel; see :class:`Kernel`.

    Returns
    -------
    A function of a tensor whose number format counts, and the arguments in order. It raises
    ``ValueError`` or ``TypeError`` if an argument is not what the kernel takes, and ``MemoryError``
    if there is no room for intermediate results.
    """
    found = KERNELS[name] = Kernel(name, arguments, fallible)
    return found.run
