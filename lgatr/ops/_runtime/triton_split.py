"""Products of float32 tiles on tensor cores, at the accuracy of float32.

Tensor cores multiply float32 numbers only as TF32, with errors of 2^-11, but numbers of 16 bits
without any, and add the products up in float32. So a float32 number is split into a sum of such:

* two float16 numbers hold 22 bits, if the numbers were scaled so that the largest lie below 2^15:
  three products, that of both low halves is below 2^-22 and left out;
* three bfloat16 numbers hold 24 bits of any float32 number above 1e-31, whatever its size: six
  products, the other three are below 2^-24.

The second needs no scale, the first half of the products and two thirds of the memory. Which is
faster depends on where the scale comes from.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl

from lgatr.ops._runtime import products

SPLIT, ROUNDED = tl.constexpr(products.SPLIT), tl.constexpr(products.ROUNDED)


@triton.jit
def scale_up(largest):
    """A power of two that brings numbers up to ``largest`` below 2^15; at most 2^126."""
    above = tl.maximum((largest.to(tl.int32, bitcast=True) & 0x7F800000) - 0x07000000, 0x00800000)
    return (0x7F000000 - above).to(tl.float32, bitcast=True)


@triton.jit
def scale_down(largest):
    """The inverse of :func:`scale_up`."""
    above = tl.maximum((largest.to(tl.int32, bitcast=True) & 0x7F800000) - 0x07000000, 0x00800000)
    return above.to(tl.float32, bitcast=True)


@triton.jit
def scaled(x):
    """A tile scaled by its largest entry, and what undoes that."""
    largest = tl.max(tl.max(tl.abs(x), 1), 0)
    return x * scale_up(largest), scale_down(largest)


@triton.jit
def halves(x, PRODUCTS: tl.constexpr):
    """A tile of scaled numbers for :func:`add_halves`.

    ``PRODUCTS`` is one of :mod:`lgatr.ops._runtime.products`.
    """
    if PRODUCTS == SPLIT:
        high = x.to(tl.float16)
        low = (x - high.to(tl.float32)).to(tl.float16)
    else:
        high = x.to(tl.bfloat16) if PRODUCTS == ROUNDED else x
        low = high
    return high, low


@triton.jit
def turned_halves(a):
    """The transposed tile."""
    return tl.trans(a[0]), tl.trans(a[1])


@triton.jit
def add_halves(a, b, total, PRODUCTS: tl.constexpr):
    """``total + a b``; small products first."""
    if PRODUCTS == SPLIT:
        total = tl.dot(a[1], b[0], total)
        total = tl.dot(a[0], b[1], total)
    return tl.dot(a[0], b[0], total, input_precision="tf32")


# Triton's interpreter would multiply the bits of bfloat16 numbers.
_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def thirds(x, PRODUCTS: tl.constexpr):
    """A tile for :func:`add_thirds`."""
    if PRODUCTS == SPLIT:
        high = x.to(tl.bfloat16)
        rest = x - high.to(tl.float32)
        middle = rest.to(tl.bfloat16)
        low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
        if _INTERPRETED:
            high, middle = high.to(tl.float32), middle.to(tl.float32)
            low = low.to(tl.float32)
    else:
        high = x.to(tl.bfloat16) if PRODUCTS == ROUNDED else x
        middle = high
        low = high
    return high, middle, low


@triton.jit
def add_thirds(a, b, total, PRODUCTS: tl.constexpr):
    """``total + a b``; small products first."""
    if PRODUCTS == SPLIT:
        total = tl.dot(a[2], b[0], total)
        total = tl.dot(a[0], b[2], total)
        total = tl.dot(a[1], b[1], total)
        total = tl.dot(a[1], b[0], total)
        total = tl.dot(a[0], b[1], total)
    return tl.dot(a[0], b[0], total, input_precision="tf32")
