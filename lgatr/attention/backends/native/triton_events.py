"""Attention inside packed events on CUDA: scores never leave the chip.

A program takes one head of one event and a tile of its queries (forward) or keys (gradient), and
walks through tiles of the other side. Nothing depends on the longest event but the number of
programs, of which those beyond the end of their event return at once.

Products run on tensor cores, those of float32 numbers as three products of their halves; see
:mod:`lgatr.ops._runtime.triton_split`. The scale that these need is one number for each
tensor, head and event, from a pass over it: the largest number of each tile costs twice as much.

The gradient of the queries sums over keys, that of keys and values over queries. Where one tile
holds all keys of an event, its program has the complete gradient of the queries. Other events have
further programs for it, which compute the scores again; nothing is added up by atomic operations,
so results do not vary from run to run.

Legend: T query tokens, U key tokens, H heads, D head width, n queries and m keys of an event.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lgatr.attention.backends.native.triton_tiles import (
    LOG2_E,
    WEIGHTS_DOWN,
    allowed,
    band_from_last,
    changed,
    event_of,
    finite_size,
    key_range,
    scaled_weights,
    scales,
    slope_of,
    store_tile,
    tile,
)
from lgatr.ops._runtime.triton_launch import Kernel
from lgatr.ops._runtime.triton_split import SPLIT, add_halves, turned_halves


@Kernel
@triton.jit
def largest_kernel(
    q, k, v, largest, q_ptr, k_ptr, q_t, k_t, v_t,
    q_h: tl.constexpr, k_h: tl.constexpr, v_h: tl.constexpr,
    heads: tl.constexpr, width: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The largest finite size of each tensor in a head of an event."""
    h = tl.program_id(0) % heads
    event = tl.program_id(0) // heads
    part = tl.program_id(1)
    found = largest + part * tl.num_programs(0) + tl.program_id(0)
    if part == 0:
        tl.store(found, _largest(q + h * q_h, q_t, q_ptr + event, width, BLOCK_T, BLOCK_D))
    elif part == 1:
        tl.store(found, _largest(k + h * k_h, k_t, k_ptr + event, width, BLOCK_T, BLOCK_D))
    else:
        tl.store(found, _largest(v + h * v_h, v_t, k_ptr + event, width, BLOCK_T, BLOCK_D))


@triton.jit
def _largest(x, stride, ptr, width: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    start, end = tl.load(ptr), tl.load(ptr + 1)
    d = tl.arange(0, BLOCK_D)
    most = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    for first in range(start, end, BLOCK_T):
        t = (first + tl.arange(0, BLOCK_T)).to(tl.int64)
        mask = (t < end)[:, None] & (d < width)[None, :]
        values = tl.load(x + t[:, None] * stride + d[None, :], mask=mask, other=0.0)
        most = tl.maximum(most, finite_size(values.to(tl.float32)))
    return tl.max(tl.max(most, 1), 0)


@Kernel
@triton.jit
def forward_kernel(
    q, k, v, out, lse, largest, q_ptr, k_ptr, slopes,
    q_t, k_t, v_t, o_t, scale, cap, left, right,
    q_h: tl.constexpr, k_h: tl.constexpr, v_h: tl.constexpr, o_h: tl.constexpr,
    heads: tl.constexpr, width: tl.constexpr,
    BAND: tl.constexpr, BOTTOM_RIGHT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr,
    PRODUCTS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    D0: tl.constexpr, D1: tl.constexpr,
):  # fmt: skip
    """A tile of queries of one head of one event."""
    h, q_start, k_start, n, m = event_of(q_ptr, k_ptr, heads)
    q += q_start * q_t + h * q_h
    k += k_start * k_t + h * k_h
    v += k_start * v_t + h * v_h
    out += q_start * o_t + h * o_h
    shift, left, right = band_from_last(n, m, left, right, BAND, BOTTOM_RIGHT)
    start = tl.program_id(1) * BLOCK_M
    if start < n:
        slope = slope_of(slopes, h, ALIBI)
        up_q, down_q = scales(largest, 0, PRODUCTS)
        up_k, down_k = scales(largest, 1, PRODUCTS)
        up_v, down_v = scales(largest, 2, PRODUCTS)
        scale = scale * down_q * down_k
        i = start + tl.arange(0, BLOCK_M)
        q0 = tile(q, up_q, i, n, 0, q_t, width, PRODUCTS, D0)
        if D1 > 0:
            q1 = tile(q, up_q, i, n, D0, q_t, width, PRODUCTS, D1)
        top = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        out0 = tl.zeros([BLOCK_M, D0], tl.float32)
        if D1 > 0:
            out1 = tl.zeros([BLOCK_M, D1], tl.float32)
        low, high = key_range(start, BLOCK_M, n, m, shift, left, right, BAND, BLOCK_N)
        for first in range(low, high, BLOCK_N):
            j = first + tl.arange(0, BLOCK_N)
            s = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
            k0 = tile(k, up_k, j, m, 0, k_t, width, PRODUCTS, D0)
            v0 = tile(v, up_v, j, m, 0, v_t, width, PRODUCTS, D0)
            if D1 > 0:
                k1 = tile(k, up_k, j, m, D0, k_t, width, PRODUCTS, D1)
                v1 = tile(v, up_v, j, m, D0, v_t, width, PRODUCTS, D1)
                s = add_halves(q1, turned_halves(k1), s, PRODUCTS)
            s = add_halves(q0, turned_halves(k0), s, PRODUCTS)
            d = j[None, :] - i[:, None] - shift
            s = changed(s * scale, d, slope, cap, CAP, ALIBI) * LOG2_E
            s = tl.where(allowed(d, (j < m)[None, :], left, right, BAND), s, float("-inf"))
            new_top = tl.maximum(top, tl.max(s, 1))
            base = tl.where(new_top == float("-inf"), 0.0, new_top)  # no key yet
            p = tl.exp2(s - base[:, None])
            shrink = tl.exp2(top - base)
            total = total * shrink + tl.sum(p, 1)
            top = new_top
            weights = scaled_weights(p, v.dtype.element_ty, PRODUCTS)
            out0 = add_halves(weights, v0, out0 * shrink[:, None], PRODUCTS)
            if D1 > 0:
                out1 = add_halves(weights, v1, out1 * shrink[:, None], PRODUCTS)
        none = total == 0.0  # no key; a total that is no number stays one
        total = tl.where(none, 1.0, total)
        share = 1.0 / total
        if PRODUCTS == SPLIT:
            share *= down_v * WEIGHTS_DOWN
        store_tile(out, i, n, 0, o_t, width, out0 * share[:, None], D0)
        if D1 > 0:
            store_tile(out, i, n, D0, o_t, width, out1 * share[:, None], D1)
        found = tl.where(none, float("-inf"), (top + tl.log2(total)) / LOG2_E)
        tl.store(lse + (q_start + i) * heads + h, found, mask=i < n)
