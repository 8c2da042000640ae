"""What the kernels of attention inside events share: tiles, masks, changes of scores, scales.

Legend: n queries and m keys of an event, D head width.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lgatr.ops._runtime.triton_functions import tanh
from lgatr.ops._runtime.triton_split import SPLIT, halves, scale_down, scale_up

LOG2_E = tl.constexpr(1.4426950408889634)

# Weights are at most 1, and float16 reaches to 2^15.
_WEIGHTS_UP, WEIGHTS_DOWN = tl.constexpr(16384.0), tl.constexpr(1.0 / 16384.0)


@triton.jit
def tile(
    x, up, row, rows, first, stride, width: tl.constexpr, PRODUCTS: tl.constexpr, D: tl.constexpr
):  # fmt: skip
    """Columns ``first`` to ``first + D`` of rows, zero beyond the end, scaled and split."""
    d = first + tl.arange(0, D)
    mask = (row < rows)[:, None] & (d < width)[None, :]
    values = tl.load(x + row[:, None] * stride + d[None, :], mask=mask, other=0.0)
    if PRODUCTS == SPLIT:
        values = values * up
    return halves(values, PRODUCTS)


@triton.jit
def store_tile(x, row, rows, first, stride, width: tl.constexpr, values, D: tl.constexpr):
    """Write columns ``first`` to ``first + D`` of rows."""
    d = first + tl.arange(0, D)
    mask = (row < rows)[:, None] & (d < width)[None, :]
    values = values.to(x.dtype.element_ty)
    tl.store(x + row[:, None] * stride + d[None, :], values, mask=mask)


@triton.jit
def allowed(distance, inside, left, right, BAND: tl.constexpr):
    """Which scores there are.

    ``distance`` is the position of the key minus that of the query, both counted from the first
    of the event, or from the last where the band is.
    """
    if BAND:
        return inside & (distance <= right) & (distance >= -left)
    else:
        return inside


@triton.jit
def changed(s, distance, slope, cap, CAP: tl.constexpr, ALIBI: tl.constexpr):
    """Scores after their changes."""
    if CAP:
        s = cap * tanh(s / cap)
    if ALIBI:
        s = s - slope * tl.abs(distance).to(tl.float32)
    return s


@triton.jit
def finite_size(x):
    """Sizes of numbers for a scale, zero for infinite ones, and those that are none."""
    size = tl.abs(x)
    return tl.where(size < float("inf"), size, 0.0)


@triton.jit
def scales(largest, part: tl.constexpr, PRODUCTS: tl.constexpr):
    """Factor on a tensor in the head and event of this program, and its inverse.

    ``largest`` has the largest numbers of some tensors, for as many heads and events as there are
    programs in the first dimension.
    """
    if PRODUCTS == SPLIT:
        found = tl.load(largest + part * tl.num_programs(0) + tl.program_id(0))
        return scale_up(found), scale_down(found)
    else:
        return 1.0, 1.0


@triton.jit
def scaled_weights(p, dtype: tl.constexpr, PRODUCTS: tl.constexpr):
    """Attention weights for a product."""
    if PRODUCTS == SPLIT:
        return halves(p * _WEIGHTS_UP, PRODUCTS)
    else:
        return halves(p.to(dtype), PRODUCTS)


@triton.jit
def key_range(start, block, n, m, shift, left, right, BAND: tl.constexpr, STEP: tl.constexpr):
    """Keys that a tile of queries sees, from the start of a tile of keys."""
    low = 0
    high = m
    if BAND:
        low = tl.maximum(start + shift - left, 0)
        low = (low // STEP) * STEP
        high = tl.minimum(start + block + shift + right, m)
    return low, high


@triton.jit
def event_of(q_ptr, k_ptr, heads: tl.constexpr):
    """The head of this program; where the queries and keys of its event start; how many it has."""
    h = tl.program_id(0) % heads
    event = tl.program_id(0) // heads
    n = tl.load(q_ptr + event + 1) - tl.load(q_ptr + event)
    m = tl.load(k_ptr + event + 1) - tl.load(k_ptr + event)
    return h, tl.load(q_ptr + event).to(tl.int64), tl.load(k_ptr + event).to(tl.int64), n, m


@triton.jit
def band_from_last(n, m, left, right, BAND: tl.constexpr, BOTTOM_RIGHT: tl.constexpr):
    """A band with distances from the last query and the last key, and the shift to those."""
    shift = m - n
    if BAND and not BOTTOM_RIGHT:
        left, right = left + shift, right - shift
    return shift, left, right


@triton.jit
def slope_of(slopes, h, ALIBI: tl.constexpr):
    """The slope of a head, zero without any."""
    if ALIBI:
        return tl.load(slopes + h).to(tl.float32)
    else:
        return 0.0
