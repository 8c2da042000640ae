"""Gradients of attention inside packed events on CUDA; :mod:`.triton_events` describes them."""

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
from lgatr.ops._runtime.triton_split import SPLIT, add_halves, halves, turned_halves

# Products of gradients and values, both below 2^15, sum up to 2^38 over a head, less their mean.
_CHANGES_UP, _CHANGES_DOWN = tl.constexpr(2.0**-24), tl.constexpr(2.0**24)


@triton.jit
def _weights(s, lse, allowed):
    """Attention weights from changed scores and log-sum-exps of queries."""
    base = tl.where(lse == float("-inf"), 0.0, lse)
    return tl.where(allowed, tl.exp2((s - base) * LOG2_E), 0.0)


@triton.jit
def _derivative_of_change(s, distance, slope, cap, CAP: tl.constexpr, ALIBI: tl.constexpr):
    """Derivative of the changed score with respect to the score."""
    if CAP:
        if ALIBI:
            s = s + slope * tl.abs(distance).to(tl.float32)
        t = s / cap
        return 1.0 - t * t
    else:
        return 1.0


@triton.jit
def _changes(ds, dp, mean, up_g, up_v, dtype: tl.constexpr, PRODUCTS: tl.constexpr):
    """Gradients of scores: ``ds`` times what gradients of weights differ from their mean."""
    if PRODUCTS == SPLIT:
        return halves(ds * (dp * _CHANGES_UP - (mean * up_g) * (up_v * _CHANGES_UP)), PRODUCTS)
    else:
        return halves((ds * (dp - mean)).to(dtype), PRODUCTS)


@triton.jit
def _down_changes(scale, down_g, down_v, PRODUCTS: tl.constexpr):
    """Undoes the scale of :func:`_changes`, and applies that of the scores."""
    if PRODUCTS == SPLIT:
        scale = scale * (down_v * _CHANGES_DOWN) * down_g
    return scale


@Kernel
@triton.jit
def sums_kernel(
    grad, out, delta, largest, q_ptr, g_t, o_t, g_h: tl.constexpr, o_h: tl.constexpr,
    heads: tl.constexpr, width: tl.constexpr, PRODUCTS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """For each query of a head of an event, the sum over gradient times output.

    As the gradient is at hand: its largest finite size too, for products that are scaled.
    """
    h = tl.program_id(0) % heads
    event = tl.program_id(0) // heads
    start, end = tl.load(q_ptr + event), tl.load(q_ptr + event + 1)
    d = tl.arange(0, BLOCK_D)
    most = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    for first in range(start, end, BLOCK_T):
        t = (first + tl.arange(0, BLOCK_T)).to(tl.int64)
        mask = (t < end)[:, None] & (d < width)[None, :]
        a = tl.load(grad + h * g_h + t[:, None] * g_t + d[None, :], mask=mask, other=0.0)
        b = tl.load(out + h * o_h + t[:, None] * o_t + d[None, :], mask=mask, other=0.0)
        a = a.to(tl.float32)
        tl.store(delta + t * heads + h, tl.sum(a * b.to(tl.float32), 1), mask=t < end)
        if PRODUCTS == SPLIT:
            most = tl.maximum(most, finite_size(a))
    if PRODUCTS == SPLIT:
        tl.store(largest + tl.program_id(0), tl.max(tl.max(most, 1), 0))


@Kernel
@triton.jit
def gradient_kernel(
    q, k, v, grad, lse, delta, of_q, of_k, of_v, largest, largest_g, q_ptr, k_ptr, slopes,
    q_t, k_t, v_t, g_t, oq_t, ok_t, ov_t, scale, cap, left, right, key_tiles,
    q_h: tl.constexpr, k_h: tl.constexpr, v_h: tl.constexpr,
    g_h: tl.constexpr, oq_h: tl.constexpr, ok_h: tl.constexpr, ov_h: tl.constexpr,
    heads: tl.constexpr, width: tl.constexpr,
    BAND: tl.constexpr, BOTTOM_RIGHT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr,
    PRODUCTS: tl.constexpr, SERIAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    D0: tl.constexpr, D1: tl.constexpr,
):  # fmt: skip
    """A tile of keys of one head of one event; or, after ``key_tiles`` such, of its queries.

    ``SERIAL``: all keys of one head of one event, a tile after the other.
    """
    h, q_start, k_start, n, m = event_of(q_ptr, k_ptr, heads)
    q += q_start * q_t + h * q_h
    k += k_start * k_t + h * k_h
    v += k_start * v_t + h * v_h
    grad += q_start * g_t + h * g_h
    of_q += q_start * oq_t + h * oq_h
    of_k += k_start * ok_t + h * ok_h
    of_v += k_start * ov_t + h * ov_h
    lse += q_start * heads + h
    delta += q_start * heads + h
    shift, left, right = band_from_last(n, m, left, right, BAND, BOTTOM_RIGHT)
    slope = slope_of(slopes, h, ALIBI)
    if SERIAL:
        for start in range(0, m, BLOCK_N):
            _key_gradients(
                q, k, v, grad, lse, delta, of_q, of_k, of_v, largest, largest_g,
                q_t, k_t, v_t, g_t, oq_t, ok_t, ov_t,
                start, n, m, shift, scale, slope, cap, left, right,
                heads, width, BAND, CAP, ALIBI, PRODUCTS, SERIAL, BLOCK_M, BLOCK_N, D0, D1,
            )  # fmt: skip
    else:
        number = tl.program_id(1)
        if number < key_tiles:
            if number * BLOCK_N < m:
                _key_gradients(
                    q, k, v, grad, lse, delta, of_q, of_k, of_v, largest, largest_g,
                    q_t, k_t, v_t, g_t, oq_t, ok_t, ov_t,
                    number * BLOCK_N, n, m, shift, scale, slope, cap, left, right,
                    heads, width, BAND, CAP, ALIBI, PRODUCTS, SERIAL, BLOCK_M, BLOCK_N, D0, D1,
                )  # fmt: skip
        else:
            if m > BLOCK_N and (number - key_tiles) * BLOCK_M < n:
                _query_gradients(
                    q, k, v, grad, lse, delta, of_q, largest, largest_g,
                    q_t, k_t, v_t, g_t, oq_t,
                    (number - key_tiles) * BLOCK_M, n, m, shift, scale, slope, cap, left, right,
                    heads, width, BAND, CAP, ALIBI, PRODUCTS, BLOCK_M, BLOCK_N, D0, D1,
                )  # fmt: skip


@triton.jit
def _add_query_gradients(
    of_q, row, rows, first, stride, width: tl.constexpr, values, later, D: tl.constexpr
):  # fmt: skip
    """Write columns of the gradient of queries, or add to what earlier keys gave."""
    d = first + tl.arange(0, D)
    place = of_q + row[:, None] * stride + d[None, :]
    mask = (row < rows)[:, None] & (d < width)[None, :]
    before = tl.load(place, mask=mask & later, other=0.0)
    tl.store(place, (values + before).to(of_q.dtype.element_ty), mask=mask)


@triton.jit
def _key_gradients(
    q, k, v, grad, lse, delta, of_q, of_k, of_v, largest, largest_g,
    q_t, k_t, v_t, g_t, oq_t, ok_t, ov_t,
    start, n, m, shift, scale, slope, cap, left, right,
    heads: tl.constexpr, width: tl.constexpr, BAND: tl.constexpr, CAP: tl.constexpr,
    ALIBI: tl.constexpr, PRODUCTS: tl.constexpr, SERIAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile of keys and values; of the queries too, if these are all keys.

    ``SERIAL``: of the queries too, added to what the tiles of keys before this one gave.

    Scores are ``(keys, queries)``, so that what multiplies queries lies as products need it.
    """
    up_q, down_q = scales(largest, 0, PRODUCTS)
    up_k, down_k = scales(largest, 1, PRODUCTS)
    up_v, down_v = scales(largest, 2, PRODUCTS)
    up_g, down_g = scales(largest_g, 0, PRODUCTS)
    down_ds = _down_changes(scale, down_g, down_v, PRODUCTS)
    j = start + tl.arange(0, BLOCK_N)
    k0 = tile(k, up_k, j, m, 0, k_t, width, PRODUCTS, D0)
    v0 = tile(v, up_v, j, m, 0, v_t, width, PRODUCTS, D0)
    dk0 = tl.zeros([BLOCK_N, D0], tl.float32)
    dv0 = tl.zeros([BLOCK_N, D0], tl.float32)
    if D1 > 0:
        k1 = tile(k, up_k, j, m, D0, k_t, width, PRODUCTS, D1)
        v1 = tile(v, up_v, j, m, D0, v_t, width, PRODUCTS, D1)
        dk1 = tl.zeros([BLOCK_N, D1], tl.float32)
        dv1 = tl.zeros([BLOCK_N, D1], tl.float32)
    alone = SERIAL or m <= BLOCK_N
    low = 0
    high = n
    if BAND:
        # The first to write the gradient of queries writes zeros to those without keys.
        if start > 0 or not alone:
            low = tl.maximum(start - shift - right, 0) // BLOCK_M * BLOCK_M
            high = tl.minimum(start + BLOCK_N - shift + left, n)
    for first in range(low, high, BLOCK_M):
        i = first + tl.arange(0, BLOCK_M)
        q0 = tile(q, up_q, i, n, 0, q_t, width, PRODUCTS, D0)
        g0 = tile(grad, up_g, i, n, 0, g_t, width, PRODUCTS, D0)
        s = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        dp = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        if D1 > 0:
            q1 = tile(q, up_q, i, n, D0, q_t, width, PRODUCTS, D1)
            g1 = tile(grad, up_g, i, n, D0, g_t, width, PRODUCTS, D1)
            s = add_halves(k1, turned_halves(q1), s, PRODUCTS)
            dp = add_halves(v1, turned_halves(g1), dp, PRODUCTS)
        s = add_halves(k0, turned_halves(q0), s, PRODUCTS)
        dp = add_halves(v0, turned_halves(g0), dp, PRODUCTS)
        d = j[:, None] - i[None, :] - shift
        inside = (j < m)[:, None] & (i < n)[None, :]
        s = changed(s * (scale * down_q * down_k), d, slope, cap, CAP, ALIBI)
        sums = tl.load(lse + i * heads, mask=i < n, other=0.0)
        p = _weights(s, sums[None, :], allowed(d, inside, left, right, BAND))
        mean = tl.load(delta + i * heads, mask=i < n, other=0.0)
        ds = p * _derivative_of_change(s, d, slope, cap, CAP, ALIBI)
        change = _changes(ds, dp, mean[None, :], up_g, up_v, q.dtype.element_ty, PRODUCTS)
        weights = scaled_weights(p, q.dtype.element_ty, PRODUCTS)
        dv0 = add_halves(weights, g0, dv0, PRODUCTS)
        dk0 = add_halves(change, q0, dk0, PRODUCTS)
        if D1 > 0:
            dv1 = add_halves(weights, g1, dv1, PRODUCTS)
            dk1 = add_halves(change, q1, dk1, PRODUCTS)
        if alone:
            across = turned_halves(change)
            dq = add_halves(across, k0, tl.zeros([BLOCK_M, D0], tl.float32), PRODUCTS)
            dq *= down_ds * down_k
            if SERIAL:
                _add_query_gradients(of_q, i, n, 0, oq_t, width, dq, start > 0, D0)
            else:
                store_tile(of_q, i, n, 0, oq_t, width, dq, D0)
            if D1 > 0:
                dq1 = add_halves(across, k1, tl.zeros([BLOCK_M, D1], tl.float32), PRODUCTS)
                dq1 *= down_ds * down_k
                if SERIAL:
                    _add_query_gradients(of_q, i, n, D0, oq_t, width, dq1, start > 0, D1)
                else:
                    store_tile(of_q, i, n, D0, oq_t, width, dq1, D1)
    down_w = 1.0
    if PRODUCTS == SPLIT:
        down_w = down_g * WEIGHTS_DOWN
    if SERIAL:
        tl.debug_barrier()  # the next tile of keys reads what any thread wrote to of_q
    store_tile(of_k, j, m, 0, ok_t, width, dk0 * (down_ds * down_q), D0)
    store_tile(of_v, j, m, 0, ov_t, width, dv0 * down_w, D0)
    if D1 > 0:
        store_tile(of_k, j, m, D0, ok_t, width, dk1 * (down_ds * down_q), D1)
        store_tile(of_v, j, m, D0, ov_t, width, dv1 * down_w, D1)


@triton.jit
def _query_gradients(
    q, k, v, grad, lse, delta, of_q, largest, largest_g, q_t, k_t, v_t, g_t, oq_t,
    start, n, m, shift, scale, slope, cap, left, right,
    heads: tl.constexpr, width: tl.constexpr,
    BAND: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, PRODUCTS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of queries, from all keys that it sees."""
    up_q, down_q = scales(largest, 0, PRODUCTS)
    up_k, down_k = scales(largest, 1, PRODUCTS)
    up_v, down_v = scales(largest, 2, PRODUCTS)
    up_g, down_g = scales(largest_g, 0, PRODUCTS)
    down_ds = _down_changes(scale, down_g, down_v, PRODUCTS)
    i = start + tl.arange(0, BLOCK_M)
    q0 = tile(q, up_q, i, n, 0, q_t, width, PRODUCTS, D0)
    g0 = tile(grad, up_g, i, n, 0, g_t, width, PRODUCTS, D0)
    dq0 = tl.zeros([BLOCK_M, D0], tl.float32)
    if D1 > 0:
        q1 = tile(q, up_q, i, n, D0, q_t, width, PRODUCTS, D1)
        g1 = tile(grad, up_g, i, n, D0, g_t, width, PRODUCTS, D1)
        dq1 = tl.zeros([BLOCK_M, D1], tl.float32)
    sums = tl.load(lse + i * heads, mask=i < n, other=0.0)
    mean = tl.load(delta + i * heads, mask=i < n, other=0.0)
    low, high = key_range(start, BLOCK_M, n, m, shift, left, right, BAND, BLOCK_N)
    for first in range(low, high, BLOCK_N):
        j = first + tl.arange(0, BLOCK_N)
        k0 = tile(k, up_k, j, m, 0, k_t, width, PRODUCTS, D0)
        s = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        dp = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        if D1 > 0:
            k1 = tile(k, up_k, j, m, D0, k_t, width, PRODUCTS, D1)
            s = add_halves(q1, turned_halves(k1), s, PRODUCTS)
            dp = add_halves(
                g1, turned_halves(tile(v, up_v, j, m, D0, v_t, width, PRODUCTS, D1)), dp, PRODUCTS
            )
        s = add_halves(q0, turned_halves(k0), s, PRODUCTS)
        dp = add_halves(
            g0, turned_halves(tile(v, up_v, j, m, 0, v_t, width, PRODUCTS, D0)), dp, PRODUCTS
        )
        d = j[None, :] - i[:, None] - shift
        inside = (j < m)[None, :] & (i < n)[:, None]
        s = changed(s * (scale * down_q * down_k), d, slope, cap, CAP, ALIBI)
        p = _weights(s, sums[:, None], allowed(d, inside, left, right, BAND))
        ds = p * _derivative_of_change(s, d, slope, cap, CAP, ALIBI)
        change = _changes(ds, dp, mean[:, None], up_g, up_v, q.dtype.element_ty, PRODUCTS)
        dq0 = add_halves(change, k0, dq0, PRODUCTS)
        if D1 > 0:
            dq1 = add_halves(change, k1, dq1, PRODUCTS)
    store_tile(of_q, i, n, 0, oq_t, width, dq0 * (down_ds * down_k), D0)
    if D1 > 0:
        store_tile(of_q, i, n, D0, oq_t, width, dq1 * (down_ds * down_k), D1)
