"""Kinds of arguments of the kernels in C++, each checked before its address is handed over.

An address and a wrong size corrupt memory, so nothing here trusts its caller: shape, strides,
format, device, and that there is memory at all. The checks are comparisons of shapes with tuples
of integers, about a microsecond for each tensor; a kernel has up to a dozen, and a training step
of one small event spends more than 500 microseconds for each call of a kernel.
"""

from __future__ import annotations

import ctypes
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS

Shape = tuple[int, ...]
_LARGEST = 2**62


class StateAddress(ctypes.Structure):
    """``State`` of native.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in "zvb"] + [
        (name, ctypes.c_int64) for name in ("z_token", "v_row", "v_token", "b_row", "b_token")
    ]


class HeadsAddress(ctypes.Structure):
    """``Heads`` of attention.cpp."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("token", ctypes.c_int64), ("head", ctypes.c_int64),
    ]  # fmt: skip


class Argument(ABC):
    """One argument of a kernel."""

    c_type: ClassVar[Any]
    written: bool = False

    def shapes(self) -> str:
        """Python expression in the sizes of the kernel, for the shapes that are wanted."""
        return "None"

    def elements(self) -> str:
        """Python expression likewise, for how many numbers it has."""
        return "0"

    @abstractmethod
    def converted(self, x: Any, want: Any, real: torch.dtype) -> Any:
        """``x`` as ctypes takes it.

        Raises
        ------
        ValueError, TypeError
            With what is wrong with it.
        """


def _tuple(dimensions: Sequence[str]) -> str:
    return f"({', '.join(dimensions)},)"


def _product(dimensions: Sequence[str]) -> str:
    return " * ".join(f"({d})" for d in dimensions)


def _address(x: Any, dtype: torch.dtype) -> int:
    """Where a tensor begins, which must be of this format, on the CPU, and as its memory says."""
    if not isinstance(x, Tensor):
        raise TypeError(f"is {type(x).__name__}, and a tensor is wanted")
    if x.dtype is not dtype or not x.is_cpu:
        raise ValueError(f"is {x.dtype} on {x.device}, and {dtype} on cpu is wanted")
    if x.is_neg():
        raise ValueError("is a lazily negated view; call resolve_neg() on it")
    try:
        address = x.data_ptr()
    except RuntimeError:  # sparse ones, and those inside of torch.func
        raise ValueError(f"has no memory of its own: it is {x.layout}, or a wrapper") from None
    if address == 0 and x.numel() > 0:
        raise ValueError("has no memory: it was freed, or stands for another tensor")
    return address


def _wrong_shape(x: Tensor, want: Shape) -> ValueError:
    return ValueError(f"has shape {tuple(x.shape)}, and {want} is wanted")


def _row_strides(x: Tensor, want: Shape, written: bool) -> Shape:
    """Strides of a tensor of this shape whose last dimension must lie side by side.

    Places that are written must not overlap: threads would write them at once.
    """
    if x.shape != want:
        raise _wrong_shape(x, want)
    strides = x.stride()
    if strides[-1] != 1 and want[-1] > 1:
        raise ValueError(f"has strides {strides}, and the last must be 1")
    if written and not x.is_contiguous():
        reach = 1
        for stride, size in sorted(zip(strides, want, strict=True)):
            if size > 1 and stride < reach:
                raise ValueError(f"has strides {strides}, and would be written on top of itself")
            reach = max(reach, stride * (size - 1) + reach) if size > 1 else reach
    return strides


@dataclass(frozen=True)
class Array(Argument):
    """A contiguous tensor; leading dimensions may be more than one.

    Parameters
    ----------
    dimensions
        Sizes, in names of the kernel's sizes.
    written
        Whether the kernel writes it.
    optional
        Whether None is allowed.
    dtype
        None is the kernel's own format.
    """

    c_type = ctypes.c_void_p
    dimensions: tuple[str, ...]
    written: bool = False
    optional: bool = False
    dtype: torch.dtype | None = None

    def shapes(self) -> str:
        """See :class:`Argument`."""
        return _tuple(self.dimensions)

    def elements(self) -> str:
        """See :class:`Argument`."""
        return _product(self.dimensions)

    def converted(self, x: Any, want: Shape, real: torch.dtype) -> int | None:
        """See :class:`Argument`."""
        if x is None and self.optional:
            return None
        address = _address(x, self.dtype or real)
        if x.shape != want:
            own = x.dim() - len(want) + 1
            if own < 1 or x.shape[own:] != want[1:] or x.numel() != math.prod(want):
                raise _wrong_shape(x, want)
        if not x.is_contiguous():
            raise ValueError(f"has strides {x.stride()}, and must be contiguous")
        return address


@dataclass(frozen=True)
class State(Argument):
    """A state z ``(T, width_z)``, v ``(4, T, width)`` and b ``(3, T, width)``.

    Parameters
    ----------
    width_z, width
        In names of the kernel's sizes.
    written
        Whether the kernel writes it.
    wider
        Whether z may have more columns, which are left alone.
    """

    c_type = ctypes.POINTER(StateAddress)
    width_z: str
    width: str
    written: bool = False
    wider: bool = False

    def shapes(self) -> str:
        """See :class:`Argument`."""
        z, v, b = (
            ("T", self.width_z),
            (str(NUM_VECTORS), "T", self.width),
            (str(NUM_BIVECTORS), "T", self.width),
        )
        return _tuple([_tuple(z), _tuple(v), _tuple(b)])

    def elements(self) -> str:
        """See :class:`Argument`."""
        return _product(("T", self.width_z))

    def converted(self, x: Any, want: tuple[Shape, ...], real: torch.dtype) -> Any:
        """See :class:`Argument`."""
        try:
            z, v, b = x
        except (TypeError, ValueError):
            raise TypeError("is no state (z, v, b)") from None
        addresses = _address(z, real), _address(v, real), _address(b, real)
        shape_z, shape_v, shape_b = want
        if self.wider and z.dim() == 2:
            shape_z = shape_z[0], max(z.shape[1], shape_z[1])
        z_token, _ = _row_strides(z, shape_z, self.written)
        v_row, v_token, _ = _row_strides(v, shape_v, self.written)
        b_row, b_token, _ = _row_strides(b, shape_b, self.written)
        return StateAddress(*addresses, z_token, v_row, v_token, b_row, b_token)


@dataclass(frozen=True)
class Heads(Argument):
    """Heads ``(tokens, H, D)`` with the numbers of a head side by side.

    Parameters
    ----------
    tokens
        Name of their number.
    written
        Whether the kernel writes them.
    """

    c_type = ctypes.POINTER(HeadsAddress)
    tokens: str
    written: bool = False

    def shapes(self) -> str:
        """See :class:`Argument`."""
        return _tuple((self.tokens, "H", "D"))

    def elements(self) -> str:
        """See :class:`Argument`."""
        return _product((self.tokens, "H", "D"))

    def converted(self, x: Any, want: Shape, real: torch.dtype) -> Any:
        """See :class:`Argument`."""
        address = _address(x, real)
        token, head, _ = _row_strides(x, want, self.written)
        return HeadsAddress(address, token, head)


@dataclass(frozen=True)
class Size(Argument):
    """An integer; tensors are compared with those that give their dimensions.

    Parameters
    ----------
    low, high
        Limits, both included.
    multiple
        What divides it.
    """

    c_type = ctypes.c_int64
    low: int = 0
    high: int = _LARGEST
    multiple: int = 1

    def converted(self, x: Any, want: Any, real: torch.dtype) -> int:
        """See :class:`Argument`."""
        if not isinstance(x, int):
            raise TypeError(f"is {type(x).__name__}, and an integer is wanted")
        if not self.low <= x <= self.high or x % self.multiple:
            limits = f"a multiple of {self.multiple} from {self.low} to {self.high}"
            raise ValueError(f"is {x}, and {limits} is wanted")
        return x


@dataclass(frozen=True)
class Real(Argument):
    """A number.

    Parameters
    ----------
    positive
        Whether it must be, and finite.
    """

    c_type = ctypes.c_double
    positive: bool = False

    def converted(self, x: Any, want: Any, real: torch.dtype) -> float:
        """See :class:`Argument`."""
        if not isinstance(x, (int, float)):
            raise TypeError(f"is {type(x).__name__}, and a number is wanted")
        if self.positive and not 0 < x < math.inf:
            raise ValueError(f"is {x}, and a positive finite number is wanted")
        return x
