"""Check numbers that users give to patterns: whole, real, and tensors of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from lgatr.utils.described import described
from lgatr.utils.inputs import check_real, check_values
from lgatr.utils.lengths import MAX_TOKENS, WHOLE


def whole_number(value: Any, name: str, minimum: int, maximum: int = MAX_TOKENS) -> int:
    """``value`` as a Python number.

    Parameters
    ----------
    value
        What was given.
    name
        What the argument is called.
    minimum, maximum
        Bounds. No batch has more than 2^31 - 1 tokens, and the sum or the product of two such
        numbers fits into 64 bits.

    Raises
    ------
    ValueError
        If it is not a whole number, or outside of the bounds.
    """
    try:
        # Booleans are masks given by mistake; those of torch have an __index__ too.
        if isinstance(value, bool) or getattr(value, "dtype", None) in (torch.bool, "bool"):
            raise TypeError
        number = int(value.__index__())
    except (AttributeError, TypeError, RuntimeError, NotImplementedError):
        raise ValueError(f"{name} is a whole number, not {described(value)}") from None
    if number < minimum:
        raise ValueError(f"{name} is at least {minimum}, not {described(number)}")
    if number > maximum:
        raise ValueError(f"{name} is at most {maximum}, not {described(number)}")
    return number


def whole_numbers(values: Iterable[Any] | Tensor, name: str, minimum: int) -> tuple[int, ...]:
    """A tuple of Python numbers.

    Raises
    ------
    ValueError
        If they are no sequence, or one is not a whole number, or outside of the bounds of
        :func:`whole_number`.
    """
    if isinstance(values, Tensor):
        try:
            values = values.tolist()
        except (RuntimeError, NotImplementedError) as error:
            raise ValueError(f"{name} has no values to read: {described(values)}") from error
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{name} is a sequence of whole numbers, not {described(values)}")
    return tuple(whole_number(value, f"each of {name}", minimum) for value in values)


def check_whole_table(
    table: Any, name: str, dims: tuple[int, ...], minimum: int | None = 0
) -> None:
    """Raise ``ValueError`` unless ``table`` is a tensor of whole numbers with so many dimensions.

    Numbers below ``minimum`` are found where no device need be asked for them.
    """
    if not isinstance(table, Tensor):
        raise ValueError(f"{name} is a tensor, not {type(table).__name__}")
    if table.dtype not in WHOLE:
        raise ValueError(f"{name} has whole numbers, not {str(table.dtype).removeprefix('torch.')}")
    dense = table.layout is torch.strided and not (table.is_nested or table.is_quantized)
    if not dense or table.device.type == "meta":
        raise ValueError(f"{name} is a dense tensor with values, not {described(table)}")
    if table.dim() not in dims:
        wanted = " or ".join(map(str, dims))
        raise ValueError(f"{name} has {wanted} dimensions, not shape {tuple(table.shape)}")
    if minimum is not None and table.device.type == "cpu" and table.numel():
        smallest = int(table.long().min())
        if smallest < minimum:
            raise ValueError(f"{name} has numbers of at least {minimum}, not {smallest}")


def real_number(value: Any, name: str) -> float:
    """``value``, a number of Python or numpy, as a finite float.

    Raises
    ------
    TypeError
        If it is no real number.
    ValueError
        If it is not finite as a float.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a number, not {described(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is a finite number, not {described(value)}")
    return number


def check_real_table(x: Any, name: str, shape: str, dims: tuple[int, ...] = ()) -> None:
    """Raise unless ``x`` is a dense tensor with real floating-point values.

    Parameters
    ----------
    x
        What was given.
    name
        What it is called, in the plural.
    shape
        The shape that is wanted, in words.
    dims
        Numbers of dimensions that it may have; empty for any.

    Raises
    ------
    TypeError
        If it is no tensor.
    ValueError
        If its format, its layout or its number of dimensions are others, or it has no values.
    """
    check_real(name, x, shape)
    check_values(name, x)
    if dims and x.dim() not in dims:
        raise ValueError(
            f"{name} are floating-point numbers {shape}, not of shape {tuple(x.shape)}"
        )
