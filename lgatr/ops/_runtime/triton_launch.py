"""Launches of Triton kernels that cost the host little.

Triton looks at every argument of every launch anew: whether pointers and integers are multiples of
16, which are 1, what options there are, whether globals have changed. For kernels with forty
arguments that takes longer than most of these kernels run. A kernel here remembers what was
compiled for arguments of the same kind, and calls it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_LARGE = 1 << 31

Grid = tuple[int, ...]


class Kernel:
    """A kernel of Triton, launched as ``kernel[grid](*arguments, **constants_and_options)``.

    All arguments are given by position, in order; constants, which come last, and options by name.

    Parameters
    ----------
    fn
        What ``triton.jit`` made.
    """

    def __init__(self, fn: Any) -> None:
        from triton.runtime import JITFunction

        self.fn = fn
        self.compiled: dict[Any, tuple[Any, tuple[Any, ...]]] = {}
        parameters = getattr(fn, "params", None)
        # The interpreter has no compiled kernels.
        self.constants: tuple[str, ...] | None = None
        if isinstance(fn, JITFunction) and parameters is not None:
            self.constants = tuple(p.name for p in parameters if p.is_constexpr)
            first = len(parameters) - len(self.constants)
            if any(p.is_constexpr for p in parameters[:first]):
                raise ValueError(f"constants of {fn.__name__} come after its other arguments")
            self.fixed = tuple(p.do_not_specialize for p in parameters[:first])
        self.__name__, self.__doc__ = fn.__name__, fn.__doc__

    @property
    def arg_names(self) -> list[str]:
        """Names of all arguments."""
        return list(inspect.signature(self.fn.fn).parameters)

    def __getitem__(self, grid: Grid) -> Callable[..., None]:
        def launch(*arguments: Any, **named: Any) -> None:
            self._launch(grid, arguments, named)

        return launch

    def _launch(self, grid: Grid, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.constants is None:
            self.fn[grid](*arguments, **named)
            return
        first = arguments[0][0] if type(arguments[0]) is tuple else arguments[0]
        device = first.get_device() if isinstance(first, Tensor) else -1
        key = device, kinds(arguments, self.fixed), tuple(named.items())
        found = self.compiled.get(key)
        if found is None:
            kernel = self.fn[grid](*arguments, **named)
            if device >= 0 and hasattr(kernel, "packed_metadata"):
                self.compiled[key] = kernel, tuple(named[name] for name in self.constants)
            return
        kernel, constants = found
        stream = current_stream(device)
        x, y, z = (*grid, 1, 1)[:3]
        kernel.run(
            x, y, z, stream, kernel.function, kernel.packed_metadata, None, None, None,
            *arguments, *constants,
        )  # fmt: skip


def current_stream(device: int) -> int:
    """The stream of torch on a GPU, by its number."""
    found: int = torch._C._cuda_getCurrentRawStream(device)
    return found


def kinds(arguments: tuple[Any, ...], fixed: tuple[bool, ...]) -> tuple[Any, ...]:
    """What Triton compiles for: formats, alignment, which numbers are 1 or multiples of 16.

    Parameters
    ----------
    arguments
        Of a launch.
    fixed
        For each whether Triton looks at the size of a number alone.
    """
    types = tuple(map(type, arguments))
    return types, _reader(types, fixed)(*arguments)


@lru_cache(maxsize=4096)
def _reader(types: tuple[type, ...], fixed: tuple[bool, ...]) -> Callable[..., tuple[Any, ...]]:
    """Reads the kinds of arguments of some types, by code that asks no more of each than it must.

    As a loop it takes longer than all the rest of a launch.
    """
    parts: list[str] = []
    for i, (kind, plain) in enumerate(zip(types, fixed, strict=True)):
        if issubclass(kind, Tensor):
            parts += f"a{i}.dtype", f"a{i}.data_ptr() % 16 == 0"
        elif issubclass(kind, int):
            parts.append(f"-{_LARGE} <= a{i} < {_LARGE}")
            if not plain:
                parts += f"a{i} == 1", f"a{i} % 16 == 0"
        elif issubclass(kind, tuple):
            parts.append(f"kinds(a{i}, ({plain},) * len(a{i}))")
    names = ", ".join(f"a{i}" for i in range(len(types)))
    found: Callable[..., tuple[Any, ...]] = eval(
        f"lambda {names}: ({''.join(f'{part}, ' for part in parts)})", {"kinds": kinds}
    )
    return found
