"""The nonlinearities that kernels evaluate themselves, with their derivatives.

A kernel takes the number of a function as a constant, so that it holds the code of that one alone.
"""

from __future__ import annotations

from functools import partial

import triton
import triton.language as tl

from lgatr.ops._runtime.function_values import Function
from lgatr.utils.nonlinearities import NONLINEARITIES

GIVEN = tl.constexpr(0)
"""Number of a function that kernels do not know: its values are given in memory."""
_RELU, _SIGMOID, _TANH = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
_GELU, _SILU, _GELU_EXACT = tl.constexpr(4), tl.constexpr(5), tl.constexpr(6)
NUMBERS = {"relu": 1, "sigmoid": 2, "tanh": 3, "gelu": 4, "silu": 5, "gelu_exact": 6}
"""Of the functions in :data:`~lgatr.utils.nonlinearities.NONLINEARITIES`."""


def number_of(function: Function) -> int:
    """The number of a function, ``GIVEN`` for one that kernels do not know."""
    for name, number in NUMBERS.items():
        if _are_the_same(function, NONLINEARITIES[name]):
            return number
    return int(GIVEN.value)


def _are_the_same(function: Function, known: Function) -> bool:
    """Copies of a network have copies of partial functions."""
    if isinstance(function, partial) and isinstance(known, partial):
        return (function.func, function.args, function.keywords) == (
            known.func,
            known.args,
            known.keywords,
        )
    return function is known


@triton.jit
def _logistic(x):
    """The logistic function at x and at -x, neither as a difference of larger numbers."""
    e = tl.exp(-tl.abs(x))
    large = 1.0 / (1.0 + e)
    small = e * large
    return tl.where(x < 0, small, large), tl.where(x < 0, large, small)


@triton.jit
def tanh(x):
    """The hyperbolic tangent; near zero by its series, where the quotient cancels."""
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    y = x * x
    near = y * (-17.0 / 315.0 + y * (62.0 / 2835.0))
    near = x * (1.0 + y * (-1.0 / 3.0 + y * (2.0 / 15.0 + near)))
    return tl.where(y < 0.0625, near, tl.where(x < 0, -far, far))


@triton.jit
def _normal(x):
    """The cumulative normal distribution."""
    return 0.5 + 0.5 * tl.erf(x * 0.7071067811865476)


@triton.jit
def value(x, NUMBER: tl.constexpr):
    """The function at x."""
    if NUMBER == _RELU:
        return tl.where(x <= 0, 0.0, x)  # which keeps NaN
    elif NUMBER == _SIGMOID:
        return _logistic(x)[0]
    elif NUMBER == _TANH:
        return tanh(x)
    elif NUMBER == _GELU:
        # 1 + tanh u is twice the logistic function at 2 u.
        return x * _logistic(x * (1.5957691216057308 + 0.07135481627260025 * x * x))[0]
    elif NUMBER == _SILU:
        return x * _logistic(x)[0]
    else:
        tl.static_assert(NUMBER == _GELU_EXACT)
        return x * _normal(x)


@triton.jit
def derivative(x, NUMBER: tl.constexpr):
    """Its derivative."""
    if NUMBER == _RELU:
        return tl.where(x <= 0, 0.0, 1.0)
    elif NUMBER == _SIGMOID:
        above, below = _logistic(x)
        return above * below
    elif NUMBER == _TANH:
        above, below = _logistic(2.0 * x)
        return 4.0 * above * below
    elif NUMBER == _GELU:
        y = x * x
        above, below = _logistic(x * (1.5957691216057308 + 0.07135481627260025 * y))
        return above + above * below * (x * (1.5957691216057308 + 0.21406444881780076 * y))
    elif NUMBER == _SILU:
        above, below = _logistic(x)
        return above + x * above * below
    else:
        tl.static_assert(NUMBER == _GELU_EXACT)
        return _normal(x) + x * (0.3989422804014327 * tl.exp(-0.5 * x * x))


@triton.jit
def value_or_given(x, given, at, mask, NUMBER: tl.constexpr):
    """The function at x, evaluated or looked up."""
    if NUMBER == GIVEN:
        return tl.load(given + at, mask=mask, other=0.0)
    else:
        return value(x, NUMBER)


@triton.jit
def pullback_or_given(x, grad, given, at, mask, NUMBER: tl.constexpr):
    """``grad`` times the derivative, evaluated or looked up."""
    if NUMBER == GIVEN:
        return tl.load(given + at, mask=mask, other=0.0)
    else:
        return grad * derivative(x, NUMBER)
