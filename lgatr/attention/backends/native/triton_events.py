"""Attention inside packed events on CUDA: scores never leave the chip.

A program takes one head of one event and a tile of its queries (forward) or keys (gradient), and
walks through tiles of the other side. Nothing depends on the longest event but the number of
programs, of which those beyond the end of their event return at once.

Products run on tensor cores, those of float32 numbers as three products of their halves; see
:mod:`lgatr.ops._runtime.triton_split`. The scale that these need is one number for each tensor,
from a pass over it: the largest number of each tile costs twice as much.

The gradient of the queries sums over keys, that of keys and values over queries. Where one tile
holds all keys of an event, its program has the complete gradient of the queries. Other events have
further programs for it, which compute the scores again; nothing is added up by atomic operations,
so results do not vary from run to run.

Legend: T query tokens, U key tokens, H heads, D head width, n queries and m keys of an event.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lgatr.ops._runtime.triton_split import (
    add_halves,
    halves,
    scale_down,
    scale_up,
    turned_halves,
)


@triton.jit
def _tile(
    x, up, row, rows, first, stride, width: tl.constexpr, PARTS: tl.constexpr, D: tl.constexpr
):  # fmt: skip
    """Columns ``first`` to ``first + D`` of rows, zero beyond the end, scaled and split."""
    d = first + tl.arange(0, D)
    mask = (row < rows)[:, None] & (d < width)[None, :]
    values = tl.load(x + row[:, None] * stride + d[None, :], mask=mask, other=0.0)
    if PARTS == 2:
        values = values * up
    return halves(values, PARTS)


@triton.jit
def _store_tile(x, row, rows, first, stride, width: tl.constexpr, values, D: tl.constexpr):
    d = first + tl.arange(0, D)
    mask = (row < rows)[:, None] & (d < width)[None, :]
    values = values.to(x.dtype.element_ty)
    tl.store(x + row[:, None] * stride + d[None, :], values, mask=mask)


@triton.jit
def _allowed(distance, inside, left, right, BAND: tl.constexpr):
    if BAND:
        return inside & (distance <= right) & (distance >= -left)
    else:
        return inside


@triton.jit
def _changed(s, distance, slope, cap, CAP: tl.constexpr, ALIBI: tl.constexpr):
    """Scores after their changes; ``distance`` is the position of the key minus the query's."""
    if CAP:
        # tanh by an exponential that does not overflow
        e = tl.exp(-2.0 * tl.abs(s / cap))
        value = (1.0 - e) / (1.0 + e)
        s = cap * tl.where(s < 0, -value, value)
    if ALIBI:
        s = s - slope * tl.abs(distance).to(tl.float32)
    return s


# Weights are at most 1, and float16 reaches to 2^15.
_WEIGHTS_UP, _WEIGHTS_DOWN = tl.constexpr(16384.0), tl.constexpr(1.0 / 16384.0)
# Products of gradients and values, both below 2^15, sum up to 2^38 over a head, less their mean.
_CHANGES_UP, _CHANGES_DOWN = tl.constexpr(2.0**-24), tl.constexpr(2.0**24)


@triton.jit
def _scales(largest, PARTS: tl.constexpr):
    """Factor on a tensor whose largest number is given, and its inverse."""
    if PARTS == 2:
        found = tl.load(largest)
        return scale_up(found), scale_down(found)
    else:
        return 1.0, 1.0


@triton.jit
def _scaled_weights(p, dtype: tl.constexpr, PARTS: tl.constexpr):
    if PARTS == 2:
        return halves(p * _WEIGHTS_UP, PARTS)
    else:
        return halves(p.to(dtype), PARTS)


@triton.jit
def _key_range(start, block, n, m, shift, left, right, BAND: tl.constexpr, STEP: tl.constexpr):
    """Keys that a tile of queries sees, from the start of a tile of keys."""
    low = 0
    high = m
    if BAND:
        low = tl.maximum(start + shift - left, 0)
        low = (low // STEP) * STEP
        high = tl.minimum(start + block + shift + right, m)
    return low, high


@triton.jit(do_not_specialize=["q_tokens", "k_tokens"])
def largest_kernel(
    q, k, v, largest, q_t, k_t, v_t, q_tokens, k_tokens,
    q_h: tl.constexpr, k_h: tl.constexpr, v_h: tl.constexpr,
    heads: tl.constexpr, width: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """The largest absolute value of each tensor, above what ``largest`` says already."""
    part = tl.program_id(1)
    if part == 0:
        _largest(q, largest, q_t, q_tokens, q_h, heads, width, BLOCK_T, BLOCK_W)
    elif part == 1:
        _largest(k, largest + 1, k_t, k_tokens, k_h, heads, width, BLOCK_T, BLOCK_W)
    else:
        _largest(v, largest + 2, v_t, k_tokens, v_h, heads, width, BLOCK_T, BLOCK_W)


@triton.jit
def _largest(
    x, largest, stride, tokens, x_h: tl.constexpr, heads: tl.constexpr, width: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    most = tl.zeros([BLOCK_T, BLOCK_W], tl.float32)
    for first in tl.static_range(0, heads * width, BLOCK_W):
        c = first + tl.arange(0, BLOCK_W)
        if x_h == width:  # heads side by side
            place = c
        else:
            place = c // width * x_h + c % width
        mask = (t < tokens)[:, None] & (c < heads * width)[None, :]
        found = tl.load(x + t[:, None] * stride + place[None, :], mask=mask, other=0.0)
        most = tl.maximum(most, tl.abs(found.to(tl.float32)))
    found = tl.max(tl.max(most, 1), 0)
    # Numbers that are not negative are ordered as their bits are.
    tl.atomic_max(largest.to(tl.pointer_type(tl.int32)), found.to(tl.int32, bitcast=True))


@triton.jit
def forward_kernel(
    q, k, v, out, lse, largest, q_ptr, k_ptr, slopes,
    q_t, k_t, v_t, o_t, scale, cap, left, right,
    q_h: tl.constexpr, k_h: tl.constexpr, v_h: tl.constexpr, o_h: tl.constexpr,
    heads: tl.constexpr, width: tl.constexpr,
    BAND: tl.constexpr, BOTTOM_RIGHT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr,
    PARTS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    D0: tl.constexpr, D1: tl.constexpr,
):  # fmt: skip
    """A tile of queries of one head of one event."""
    h = tl.program_id(0) % heads
    event = tl.program_id(0) // heads
    q_start = tl.load(q_ptr + event).to(tl.int64)
    n = tl.load(q_ptr + event + 1) - tl.load(q_ptr + event)
    k_start = tl.load(k_ptr + event).to(tl.int64)
    m = tl.load(k_ptr + event + 1) - tl.load(k_ptr + event)
    q += q_start * q_t + h * q_h
    k += k_start * k_t + h * k_h
    v += k_start * v_t + h * v_h
    out += q_start * o_t + h * o_h
    shift = m - n if BOTTOM_RIGHT else 0
    start = tl.program_id(1) * BLOCK_M
    if start < n:
        slope = 0.0
        if ALIBI:
            slope = tl.load(slopes + h).to(tl.float32)
        up_q, down_q = _scales(largest, PARTS)
        up_k, down_k = _scales(largest + 1, PARTS)
        up_v, down_v = _scales(largest + 2, PARTS)
        scale = scale * down_q * down_k
        i = start + tl.arange(0, BLOCK_M)
        q0 = _tile(q, up_q, i, n, 0, q_t, width, PARTS, D0)
        if D1 > 0:
            q1 = _tile(q, up_q, i, n, D0, q_t, width, PARTS, D1)
        top = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        out0 = tl.zeros([BLOCK_M, D0], tl.float32)
        if D1 > 0:
            out1 = tl.zeros([BLOCK_M, D1], tl.float32)
        low, high = _key_range(start, BLOCK_M, n, m, shift, left, right, BAND, BLOCK_N)
        for first in range(low, high, BLOCK_N):
            j = first + tl.arange(0, BLOCK_N)
            s = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
            k0 = _tile(k, up_k, j, m, 0, k_t, width, PARTS, D0)
            v0 = _tile(v, up_v, j, m, 0, v_t, width, PARTS, D0)
            if D1 > 0:
                k1 = _tile(k, up_k, j, m, D0, k_t, width, PARTS, D1)
                v1 = _tile(v, up_v, j, m, D0, v_t, width, PARTS, D1)
                s = add_halves(q1, turned_halves(k1), s, PARTS)
            s = add_halves(q0, turned_halves(k0), s, PARTS)
            d = j[None, :] - i[:, None] - shift
            s = _changed(s * scale, d, slope, cap, CAP, ALIBI) * 1.4426950408889634
            s = tl.where(_allowed(d, (j < m)[None, :], left, right, BAND), s, float("-inf"))
            new_top = tl.maximum(top, tl.max(s, 1))
            base = tl.where(new_top == float("-inf"), 0.0, new_top)  # no key yet
            p = tl.exp2(s - base[:, None])
            shrink = tl.exp2(top - base)
            total = total * shrink + tl.sum(p, 1)
            top = new_top
            weights = _scaled_weights(p, v.dtype.element_ty, PARTS)
            out0 = add_halves(weights, v0, out0 * shrink[:, None], PARTS)
            if D1 > 0:
                out1 = add_halves(weights, v1, out1 * shrink[:, None], PARTS)
        share = down_v * _WEIGHTS_DOWN / tl.where(total > 0.0, total, 1.0)
        if PARTS != 2:
            share = 1.0 / tl.where(total > 0.0, total, 1.0)
        _store_tile(out, i, n, 0, o_t, width, out0 * share[:, None], D0)
        if D1 > 0:
            _store_tile(out, i, n, D0, o_t, width, out1 * share[:, None], D1)
        found = tl.where(total > 0.0, (top + tl.log2(total)) / 1.4426950408889634, float("-inf"))
        tl.store(lse + (q_start + i) * heads + h, found, mask=i < n)


@triton.jit
def _weights(s, lse, allowed):
    """Attention weights from changed scores and log-sum-exps of queries."""
    base = tl.where(lse == float("-inf"), 0.0, lse)
    return tl.where(allowed, tl.exp2((s - base) * 1.4426950408889634), 0.0)


@triton.jit
def _slope_of_change(changed, distance, slope, cap, CAP: tl.constexpr, ALIBI: tl.constexpr):
    """Derivative of the changed score with respect to the score."""
    if CAP:
        if ALIBI:
            changed = changed + slope * tl.abs(distance).to(tl.float32)
        t = changed / cap
        return 1.0 - t * t
    else:
        return 1.0


@triton.jit
def _changes(ds, dp, delta, up_g, up_v, dtype: tl.constexpr, PARTS: tl.constexpr):
    """Gradients of scores: ``ds`` times what gradients of weights differ from their mean."""
    if PARTS == 2:
        return halves(ds * (dp * _CHANGES_UP - (delta * up_g) * (up_v * _CHANGES_UP)), PARTS)
    else:
        return halves((ds * (dp - delta)).to(dtype), PARTS)


@triton.jit
def _down_changes(scale, down_g, down_v, PARTS: tl.constexpr):
    """Undoes the scale of :func:`_changes`, and applies that of the scores."""
    if PARTS == 2:
        scale = scale * (down_v * _CHANGES_DOWN) * down_g
    return scale


@triton.jit
def _inner(grad, out, row, rows, g_t, o_t, width: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr):
    """Sum over a head of gradient times output, for each query."""
    d = tl.arange(0, D0)
    mask = (row < rows)[:, None] & (d < width)[None, :]
    a = tl.load(grad + row[:, None] * g_t + d[None, :], mask=mask, other=0.0).to(tl.float32)
    b = tl.load(out + row[:, None] * o_t + d[None, :], mask=mask, other=0.0).to(tl.float32)
    found = tl.sum(a * b, 1)
    if D1 > 0:
        d = D0 + tl.arange(0, D1)
        mask = (row < rows)[:, None] & (d < width)[None, :]
        a = tl.load(grad + row[:, None] * g_t + d[None, :], mask=mask, other=0.0).to(tl.float32)
        b = tl.load(out + row[:, None] * o_t + d[None, :], mask=mask, other=0.0).to(tl.float32)
        found += tl.sum(a * b, 1)
    return found


@triton.jit
def gradient_kernel(
    q, k, v, out, grad, lse, of_q, of_k, of_v, largest, largest_g, q_ptr, k_ptr, slopes,
    q_t, k_t, v_t, o_t, g_t, oq_t, ok_t, ov_t, scale, cap, left, right, key_tiles,
    q_h: tl.constexpr, k_h: tl.constexpr, v_h: tl.constexpr, o_h: tl.constexpr,
    g_h: tl.constexpr, oq_h: tl.constexpr, ok_h: tl.constexpr, ov_h: tl.constexpr,
    heads: tl.constexpr, width: tl.constexpr,
    BAND: tl.constexpr, BOTTOM_RIGHT: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr,
    PARTS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    D0: tl.constexpr, D1: tl.constexpr,
):  # fmt: skip
    """A tile of keys of one head of one event; or, after ``key_tiles`` such, of its queries."""
    h = tl.program_id(0) % heads
    event = tl.program_id(0) // heads
    q_start = tl.load(q_ptr + event).to(tl.int64)
    n = tl.load(q_ptr + event + 1) - tl.load(q_ptr + event)
    k_start = tl.load(k_ptr + event).to(tl.int64)
    m = tl.load(k_ptr + event + 1) - tl.load(k_ptr + event)
    q += q_start * q_t + h * q_h
    k += k_start * k_t + h * k_h
    v += k_start * v_t + h * v_h
    out += q_start * o_t + h * o_h
    grad += q_start * g_t + h * g_h
    of_q += q_start * oq_t + h * oq_h
    of_k += k_start * ok_t + h * ok_h
    of_v += k_start * ov_t + h * ov_h
    lse += q_start * heads + h
    shift = m - n if BOTTOM_RIGHT else 0
    slope = 0.0
    if ALIBI:
        slope = tl.load(slopes + h).to(tl.float32)
    tile = tl.program_id(1)
    if tile < key_tiles:
        if tile * BLOCK_N < m:
            _key_gradients(
                q, k, v, out, grad, lse, of_q, of_k, of_v, largest, largest_g,
                q_t, k_t, v_t, o_t, g_t, oq_t, ok_t, ov_t, tile * BLOCK_N, n, m, shift, scale, slope, cap,
                left, right, heads, width, BAND, CAP, ALIBI, PARTS, BLOCK_M, BLOCK_N, D0, D1,
            )  # fmt: skip
    else:
        if m > BLOCK_N and (tile - key_tiles) * BLOCK_M < n:
            _query_gradients(
                q, k, v, out, grad, lse, of_q, largest, largest_g, q_t, k_t, v_t, o_t, g_t, oq_t,
                (tile - key_tiles) * BLOCK_M, n, m, shift, scale, slope, cap,
                left, right, heads, width, BAND, CAP, ALIBI, PARTS, BLOCK_M, BLOCK_N, D0, D1,
            )  # fmt: skip


@triton.jit
def _key_gradients(
    q, k, v, out, grad, lse, of_q, of_k, of_v, largest, largest_g,
    q_t, k_t, v_t, o_t, g_t, oq_t, ok_t, ov_t,
    start, n, m, shift, scale, slope, cap, left, right,
    heads: tl.constexpr, width: tl.constexpr,
    BAND: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile of keys and values; of the queries too, if these are all keys.

    Scores are ``(keys, queries)``, so that what multiplies queries lies as products need it.
    """
    up_q, down_q = _scales(largest, PARTS)
    up_k, down_k = _scales(largest + 1, PARTS)
    up_v, down_v = _scales(largest + 2, PARTS)
    up_g, down_g = _scales(largest_g, PARTS)
    down_ds = _down_changes(scale, down_g, down_v, PARTS)
    j = start + tl.arange(0, BLOCK_N)
    k0 = _tile(k, up_k, j, m, 0, k_t, width, PARTS, D0)
    v0 = _tile(v, up_v, j, m, 0, v_t, width, PARTS, D0)
    dk0 = tl.zeros([BLOCK_N, D0], tl.float32)
    dv0 = tl.zeros([BLOCK_N, D0], tl.float32)
    if D1 > 0:
        k1 = _tile(k, up_k, j, m, D0, k_t, width, PARTS, D1)
        v1 = _tile(v, up_v, j, m, D0, v_t, width, PARTS, D1)
        dk1 = tl.zeros([BLOCK_N, D1], tl.float32)
        dv1 = tl.zeros([BLOCK_N, D1], tl.float32)
    alone = m <= BLOCK_N
    low = 0
    high = n
    if BAND:
        if not alone:  # which otherwise writes zeros to queries without keys
            low = tl.maximum(start - shift - right, 0) // BLOCK_M * BLOCK_M
            high = tl.minimum(start + BLOCK_N - shift + left, n)
    for first in range(low, high, BLOCK_M):
        i = first + tl.arange(0, BLOCK_M)
        q0 = _tile(q, up_q, i, n, 0, q_t, width, PARTS, D0)
        g0 = _tile(grad, up_g, i, n, 0, g_t, width, PARTS, D0)
        s = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        dp = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        if D1 > 0:
            q1 = _tile(q, up_q, i, n, D0, q_t, width, PARTS, D1)
            g1 = _tile(grad, up_g, i, n, D0, g_t, width, PARTS, D1)
            s = add_halves(k1, turned_halves(q1), s, PARTS)
            dp = add_halves(v1, turned_halves(g1), dp, PARTS)
        s = add_halves(k0, turned_halves(q0), s, PARTS)
        dp = add_halves(v0, turned_halves(g0), dp, PARTS)
        d = j[:, None] - i[None, :] - shift
        inside = (j < m)[:, None] & (i < n)[None, :]
        s = _changed(s * (scale * down_q * down_k), d, slope, cap, CAP, ALIBI)
        sums = tl.load(lse + i * heads, mask=i < n, other=0.0)
        p = _weights(s, sums[None, :], _allowed(d, inside, left, right, BAND))
        delta = _inner(grad, out, i, n, g_t, o_t, width, D0, D1)
        ds = p * _slope_of_change(s, d, slope, cap, CAP, ALIBI)
        change = _changes(ds, dp, delta[None, :], up_g, up_v, q.dtype.element_ty, PARTS)
        weights = _scaled_weights(p, q.dtype.element_ty, PARTS)
        dv0 = add_halves(weights, g0, dv0, PARTS)
        dk0 = add_halves(change, q0, dk0, PARTS)
        if D1 > 0:
            dv1 = add_halves(weights, g1, dv1, PARTS)
            dk1 = add_halves(change, q1, dk1, PARTS)
        if alone:
            across = turned_halves(change)
            dq = add_halves(across, k0, tl.zeros([BLOCK_M, D0], tl.float32), PARTS)
            _store_tile(of_q, i, n, 0, oq_t, width, dq * (down_ds * down_k), D0)
            if D1 > 0:
                dq1 = add_halves(across, k1, tl.zeros([BLOCK_M, D1], tl.float32), PARTS)
                _store_tile(of_q, i, n, D0, oq_t, width, dq1 * (down_ds * down_k), D1)
    down_w = 1.0
    if PARTS == 2:
        down_w = down_g * _WEIGHTS_DOWN
    _store_tile(of_k, j, m, 0, ok_t, width, dk0 * (down_ds * down_q), D0)
    _store_tile(of_v, j, m, 0, ov_t, width, dv0 * down_w, D0)
    if D1 > 0:
        _store_tile(of_k, j, m, D0, ok_t, width, dk1 * (down_ds * down_q), D1)
        _store_tile(of_v, j, m, D0, ov_t, width, dv1 * down_w, D1)


@triton.jit
def _query_gradients(
    q, k, v, out, grad, lse, of_q, largest, largest_g, q_t, k_t, v_t, o_t, g_t, oq_t,
    start, n, m, shift, scale, slope, cap, left, right,
    heads: tl.constexpr, width: tl.constexpr,
    BAND: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of queries, from all keys that it sees."""
    up_q, down_q = _scales(largest, PARTS)
    up_k, down_k = _scales(largest + 1, PARTS)
    up_v, down_v = _scales(largest + 2, PARTS)
    up_g, down_g = _scales(largest_g, PARTS)
    down_ds = _down_changes(scale, down_g, down_v, PARTS)
    i = start + tl.arange(0, BLOCK_M)
    q0 = _tile(q, up_q, i, n, 0, q_t, width, PARTS, D0)
    g0 = _tile(grad, up_g, i, n, 0, g_t, width, PARTS, D0)
    dq0 = tl.zeros([BLOCK_M, D0], tl.float32)
    if D1 > 0:
        q1 = _tile(q, up_q, i, n, D0, q_t, width, PARTS, D1)
        g1 = _tile(grad, up_g, i, n, D0, g_t, width, PARTS, D1)
        dq1 = tl.zeros([BLOCK_M, D1], tl.float32)
    sums = tl.load(lse + i * heads, mask=i < n, other=0.0)
    delta = _inner(grad, out, i, n, g_t, o_t, width, D0, D1)
    low, high = _key_range(start, BLOCK_M, n, m, shift, left, right, BAND, BLOCK_N)
    for first in range(low, high, BLOCK_N):
        j = first + tl.arange(0, BLOCK_N)
        k0 = _tile(k, up_k, j, m, 0, k_t, width, PARTS, D0)
        s = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        dp = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        if D1 > 0:
            k1 = _tile(k, up_k, j, m, D0, k_t, width, PARTS, D1)
            s = add_halves(q1, turned_halves(k1), s, PARTS)
            dp = add_halves(
                g1, turned_halves(_tile(v, up_v, j, m, D0, v_t, width, PARTS, D1)), dp, PARTS
            )
        s = add_halves(q0, turned_halves(k0), s, PARTS)
        dp = add_halves(
            g0, turned_halves(_tile(v, up_v, j, m, 0, v_t, width, PARTS, D0)), dp, PARTS
        )
        d = j[None, :] - i[:, None] - shift
        inside = (j < m)[None, :] & (i < n)[:, None]
        s = _changed(s * (scale * down_q * down_k), d, slope, cap, CAP, ALIBI)
        p = _weights(s, sums[:, None], _allowed(d, inside, left, right, BAND))
        ds = p * _slope_of_change(s, d, slope, cap, CAP, ALIBI)
        change = _changes(ds, dp, delta[:, None], up_g, up_v, q.dtype.element_ty, PARTS)
        dq0 = add_halves(change, k0, dq0, PARTS)
        if D1 > 0:
            dq1 = add_halves(change, k1, dq1, PARTS)
    _store_tile(of_q, i, n, 0, oq_t, width, dq0 * (down_ds * down_k), D0)
    if D1 > 0:
        _store_tile(of_q, i, n, D0, oq_t, width, dq1 * (down_ds * down_k), D1)
