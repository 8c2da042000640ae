"""Vectors and bivectors in kernels: tuples of their components, each a tile.

Components lie ``step`` numbers apart, the first at ``at``.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load(x, at, mask):
    """Numbers in float32, zero where there are none."""
    return tl.load(x + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def load4(x, step, at, mask):
    """Four-vectors."""
    return (
        load(x, at, mask),
        load(x + step, at, mask),
        load(x + 2 * step, at, mask),
        load(x + 3 * step, at, mask),
    )


@triton.jit
def load3(x, step, at, mask):
    """Halves of bivectors."""
    return load(x, at, mask), load(x + step, at, mask), load(x + 2 * step, at, mask)


@triton.jit
def store4(x, step, at, mask, v, time, space):
    """Four-vectors times a factor of the first component and one of the others."""
    tl.store(x + at, v[0] * time, mask=mask)
    tl.store(x + step + at, v[1] * space, mask=mask)
    tl.store(x + 2 * step + at, v[2] * space, mask=mask)
    tl.store(x + 3 * step + at, v[3] * space, mask=mask)


@triton.jit
def store3(x, step, at, mask, b, factor):
    """Halves of bivectors times a factor."""
    tl.store(x + at, b[0] * factor, mask=mask)
    tl.store(x + step + at, b[1] * factor, mask=mask)
    tl.store(x + 2 * step + at, b[2] * factor, mask=mask)


@triton.jit
def sum4(a, b):
    """Sums of four-vectors."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@triton.jit
def sum3(a, b):
    """Sums of halves of bivectors."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@triton.jit
def dot4(a, b):
    """Sums of products of components, all with the same sign."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]


@triton.jit
def dot3(a, b):
    """The same of halves of bivectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@triton.jit
def square(v):
    """Squares of four-vectors by the metric."""
    return v[0] * v[0] - v[1] * v[1] - v[2] * v[2] - v[3] * v[3]


@triton.jit
def sum_of_squares(b):
    """Sums of squares of halves of bivectors."""
    return b[0] * b[0] + b[1] * b[1] + b[2] * b[2]


@triton.jit
def sign(x):
    """1, 0 or -1."""
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))
