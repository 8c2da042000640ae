"""Real numbers and tensors of them as users give them to masks and scores."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from lgatr.utils.described import described
from lgatr.utils.inputs import check_real, check_values


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
