"""Products of float32 tiles on tensor cores, at the accuracy of float32.

Tensor cores multiply float32 numbers only as TF32, with errors of 2^-11. A tile is therefore scaled
by a power of two, so that its largest number lies between 1 and 2, and split into halves: the
float16 number nearest to each entry, and the float16 number nearest to what is left. Together they
hold 22 bits of the large entries, and small ones to 2^-25 of the largest. A product of two tiles is
three products of halves, added up in float32; that of the two low halves is below 2^-22 and left
out. Halves in bfloat16 need no scale, but keep 16 bits.

A tile is a tuple: the high half, the low half, and the factor that undoes the scale.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def split(x, PARTS: tl.constexpr):
    """A tile for :func:`add_product`; ``PARTS`` is one of :mod:`lgatr.ops._runtime.products`."""
    if PARTS == 2:
        bits = tl.max(tl.max(tl.abs(x), 1), 0).to(tl.int32, bitcast=True) & 0x7F800000
        scaled = x * (0x7F000000 - bits).to(tl.float32, bitcast=True)
        high = scaled.to(tl.float16)
        low = (scaled - high.to(tl.float32)).to(tl.float16)
        factor = bits.to(tl.float32, bitcast=True)
    else:
        high = x.to(tl.bfloat16) if PARTS == 1 else x
        low = high
        factor = 1.0
    return high, low, factor


@triton.jit
def turned(a):
    """The transposed tile."""
    return tl.trans(a[0]), tl.trans(a[1]), a[2]


@triton.jit
def add_product(a, b, total, PARTS: tl.constexpr):
    """``total + a b``."""
    if PARTS == 2:
        found = tl.dot(a[1], b[0])
        found = tl.dot(a[0], b[1], found)
        found = tl.dot(a[0], b[0], found)
        return total + found * (a[2] * b[2])
    else:
        return tl.dot(a[0], b[0], total, input_precision="tf32")
