"""Kinds of arguments of the kernels in C++, each checked before its address is handed over.

An address and a wrong size corrupt memory, so nothing here trusts its caller: shape, strides,
format, device, and that there is memory at all. Each kind of argument knows its check twice:

- as expressions (:meth:`Argument.fast`), of which :class:`~lgatr.ops._runtime.cpu.Kernel` makes one
  function per kernel; they accept what layers pass and nothing that :meth:`Argument.converted`
  refuses;
- as :meth:`Argument.converted`, which is asked when an expression is false. It accepts everything
  that is right, such as several leading dimensions, and says what is wrong with the rest.

Legend: sizes such as T are arguments of the kernel too, and shapes are written in their names.
"""

from __future__ import annotations

import ctypes
import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS
from lgatr.ops._runtime.memory import address_of, row_strides, wrong_shape

Shape = tuple[int, ...]
_LARGEST = 2**62

# State of common.h: addresses of z, v, b; strides z by token, v by row and token, b likewise.
pack_state = struct.Struct("8q").pack
# Heads of the attention kernels: address, strides by token and head.
pack_heads = struct.Struct("3q").pack


class Fast(NamedTuple):
    """Python source for the check of one argument.

    Parameters
    ----------
    lines
        Statements before the checks; one that raises is a refusal.
    checks
        Expressions that must all be true.
    address
        Expression for what ctypes gets.
    """

    lines: list[str]
    checks: list[str]
    address: str


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
    def fast(self, name: str) -> Fast:
        """The check of the argument with this name as source code."""

    @abstractmethod
    def converted(self, x: Any, want: Any, real: torch.dtype) -> Any:
        """``x`` as ctypes takes it; ``ValueError`` or ``TypeError`` with what is wrong with it."""


def _tuple(dimensions: Sequence[str]) -> str:
    return f"({', '.join(dimensions)},)"


def _product(dimensions: Sequence[str]) -> str:
    return " * ".join(f"({d})" for d in dimensions)


def _is_plain(x: str, dtype: str = "real") -> str:
    return f"{x}.dtype is {dtype} and {x}.is_cpu and not {x}.is_neg()"


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
        return _tuple(self.dimensions)

    def elements(self) -> str:
        return _product(self.dimensions)

    def fast(self, name: str) -> Fast:
        dtype = "real" if self.dtype is None else "torch." + str(self.dtype).split(".")[1]
        check = (
            f"{_is_plain(name, dtype)} and {name}.shape == {self.shapes()}"
            f" and {name}.is_contiguous() and at_{name}"
        )
        if not self.optional:
            return Fast([f"at_{name} = {name}.data_ptr()"], [check], f"at_{name}")
        line = f"at_{name} = None if {name} is None else {name}.data_ptr()"
        return Fast([line], [f"({name} is None or {check})"], f"at_{name}")

    def converted(self, x: Any, want: Shape, real: torch.dtype) -> int | None:
        if x is None and self.optional:
            return None
        address = address_of(x, self.dtype or real)
        if x.shape != want:
            own = x.dim() - len(want) + 1
            if own < 1 or x.shape[own:] != want[1:] or x.numel() != math.prod(want):
                raise wrong_shape(x, want)
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

    c_type = ctypes.c_void_p
    width_z: str
    width: str
    written: bool = False
    wider: bool = False

    def shapes(self) -> str:
        z, v, b = (
            ("T", self.width_z),
            (str(NUM_VECTORS), "T", self.width),
            (str(NUM_BIVECTORS), "T", self.width),
        )
        return _tuple([_tuple(z), _tuple(v), _tuple(b)])

    def elements(self) -> str:
        return _product(("T", self.width_z))

    def fast(self, name: str) -> Fast:
        z, v, b = (f"{part}_{name}" for part in "zvb")
        lines = [
            f"{z}, {v}, {b} = {name}",
            f"{z}0, {z}1 = {z}.stride()",
            *(f"{x}0, {x}1, {x}2 = {x}.stride()" for x in (v, b)),
            *(f"at_{x} = {x}.data_ptr()" for x in (z, v, b)),
        ]
        checks = [
            *(_is_plain(x) for x in (z, v, b)),
            f"{v}.shape == ({NUM_VECTORS}, T, {self.width})",
            f"{b}.shape == ({NUM_BIVECTORS}, T, {self.width})",
            f"{z}1 == {v}2 == {b}2 == 1 and at_{z} and at_{v} and at_{b}",
        ]
        if self.wider:
            checks.append(f"{z}.shape[0] == T and {z}.shape[1] >= {self.width_z}")
        else:
            checks.append(f"{z}.shape == (T, {self.width_z})")
        if self.written:  # rows behind tokens behind columns, none on top of another
            checks.append(f"{z}0 >= {z}.shape[1]")
            checks += [f"{x}1 >= {self.width} and {x}0 >= {x}1 * T" for x in (v, b)]
        address = f"pack_state(at_{z}, at_{v}, at_{b}, {z}0, {v}0, {v}1, {b}0, {b}1)"
        return Fast(lines, checks, address)

    def converted(self, x: Any, want: tuple[Shape, ...], real: torch.dtype) -> Any:
        try:
            z, v, b = x
        except (TypeError, ValueError):
            raise TypeError("is no state (z, v, b)") from None
        addresses = address_of(z, real), address_of(v, real), address_of(b, real)
        shape_z, shape_v, shape_b = want
        if self.wider and z.dim() == 2:
            shape_z = shape_z[0], max(z.shape[1], shape_z[1])
        z_token, _ = row_strides(z, shape_z, self.written)
        v_row, v_token, _ = row_strides(v, shape_v, self.written)
        b_row, b_token, _ = row_strides(b, shape_b, self.written)
        return pack_state(*addresses, z_token, v_row, v_token, b_row, b_token)


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

    c_type = ctypes.c_void_p
    tokens: str
    written: bool = False

    def shapes(self) -> str:
        return _tuple((self.tokens, "H", "D"))

    def elements(self) -> str:
        return _product((self.tokens, "H", "D"))

    def fast(self, name: str) -> Fast:
        lines = [f"{name}0, {name}1, {name}2 = {name}.stride()", f"at_{name} = {name}.data_ptr()"]
        checks = [
            f"{_is_plain(name)} and {name}.shape == {self.shapes()}",
            f"{name}2 == 1 and at_{name}",
        ]
        if self.written:
            checks.append(f"{name}1 >= D and {name}0 >= {name}1 * H")
        return Fast(lines, checks, f"pack_heads(at_{name}, {name}0, {name}1)")

    def converted(self, x: Any, want: Shape, real: torch.dtype) -> Any:
        address = address_of(x, real)
        token, head, _ = row_strides(x, want, self.written)
        return pack_heads(address, token, head)


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

    def fast(self, name: str) -> Fast:
        multiple = f" and not {name} % {self.multiple}" if self.multiple > 1 else ""
        check = f"isinstance({name}, int) and {self.low} <= {name} <= {self.high}{multiple}"
        return Fast([], [check], name)

    def converted(self, x: Any, want: Any, real: torch.dtype) -> int:
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

    def fast(self, name: str) -> Fast:
        positive = f" and 0.0 < {name} < inf" if self.positive else ""
        return Fast([], [f"isinstance({name}, float){positive}"], name)

    def converted(self, x: Any, want: Any, real: torch.dtype) -> float:
        if not isinstance(x, (int, float)):
            raise TypeError(f"is {type(x).__name__}, and a number is wanted")
        if self.positive and not 0 < x < math.inf:
            raise ValueError(f"is {x}, and a positive finite number is wanted")
        return x


FLAG, PIECE_COUNT = Size(0, 1), Size(1, 2**20)
SIGNS: dict[str, Argument] = {"F": Size(1), "metric": Size(0, 2**62 - 1)}
"""Heads of each part F, and a bit for each part that gets the signs of the inner product."""


def given(*dimensions: str) -> Array:
    """A contiguous tensor that is read."""
    return Array(dimensions)


def out(*dimensions: str) -> Array:
    """A contiguous tensor that is written."""
    return Array(dimensions, written=True)


def maybe(*dimensions: str, written: bool = False) -> Array:
    """A contiguous tensor, or None."""
    return Array(dimensions, written=written, optional=True)


def sizes(names: str) -> dict[str, Argument]:
    """Sizes with these names, from 0."""
    return {name: Size() for name in names.split()}
