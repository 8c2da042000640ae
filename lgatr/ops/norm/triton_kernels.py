"""Kernels of the equivariant layer norm on CUDA.

A program takes a tile of tokens forward, and several backward, so that it can add up the gradient
of the gains in registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lgatr.ops._runtime.triton_launch import Kernel
from lgatr.ops._runtime.triton_vectors import (
    dot3,
    dot4,
    load3,
    load4,
    sign,
    square,
    store3,
    store4,
    sum3,
    sum4,
    sum_of_squares,
)


@triton.jit
def _gain(weight, grade: tl.constexpr, c, mask, HAS_WEIGHT: tl.constexpr):
    """The gain of a grade for each channel ``(C, 5)``, or one."""
    if HAS_WEIGHT:
        return tl.load(weight + 5 * c + grade, mask=mask, other=0.0).to(tl.float32)
    else:
        return tl.where(mask, 1.0, 0.0)


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def norm_kernel(
    z, v, b, hz, hv, hb, weight, weight_s,
    sum_z, sum_v, sum_b, out_z, out_v, out_b, factor, mean, deviation,
    z_t, v_i, v_t, b_i, b_t, hz_t, hv_i, hv_t, hb_i, hb_t,
    sz_t, sv_i, sv_t, sb_i, sb_t, oz_t, ov_i, ov_t, ob_i, ob_t,
    tokens, channels, scalars, epsilon, gain, layer_norm_epsilon,
    HAS_SUM: tl.constexpr, HAS_WEIGHT: tl.constexpr, HAS_WEIGHT_S: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    """The norm of a tile of tokens, or of the sum of two such, which is written too."""
    start = tl.program_id(0).to(tl.int64) * BLOCK_T
    # Places inside of a tile are small numbers, which need half the registers.
    z, v, b = z + start * z_t, v + start * v_t, b + start * b_t
    out_z, out_v, out_b = out_z + start * oz_t, out_v + start * ov_t, out_b + start * ob_t
    factor, mean, deviation = factor + start, mean + start, deviation + start
    token = tl.arange(0, BLOCK_T)
    t, c = token[:, None], tl.arange(0, BLOCK_C)[None, :]
    in_c, in_t = c < channels, token < tokens - start
    mask = in_t[:, None] & in_c
    at_v, at_b = t * v_t + c, t * b_t + c
    zp = tl.load(z + t * z_t + c, mask=mask, other=0.0).to(tl.float32)
    zi = tl.load(z + t * z_t + channels + c, mask=mask, other=0.0).to(tl.float32)
    vp, vi = load4(v, v_i, at_v, mask), load4(v + channels, v_i, at_v, mask)
    bp, bi = load3(b, b_i, at_b, mask), load3(b + channels, b_i, at_b, mask)
    if HAS_SUM:
        hz, hv, hb = hz + start * hz_t, hv + start * hv_t, hb + start * hb_t
        zp += tl.load(hz + t * hz_t + c, mask=mask, other=0.0)
        zi += tl.load(hz + t * hz_t + channels + c, mask=mask, other=0.0)
        at_v, at_b = t * hv_t + c, t * hb_t + c
        vp = sum4(vp, load4(hv, hv_i, at_v, mask))
        vi = sum4(vi, load4(hv + channels, hv_i, at_v, mask))
        bp = sum3(bp, load3(hb, hb_i, at_b, mask))
        bi = sum3(bi, load3(hb + channels, hb_i, at_b, mask))
        sum_z, sum_v, sum_b = sum_z + start * sz_t, sum_v + start * sv_t, sum_b + start * sb_t
        tl.store(sum_z + t * sz_t + c, zp, mask=mask)
        tl.store(sum_z + t * sz_t + channels + c, zi, mask=mask)
        at_v, at_b = t * sv_t + c, t * sb_t + c
        store4(sum_v, sv_i, at_v, mask, vp, 1.0, 1.0)
        store4(sum_v + channels, sv_i, at_v, mask, vi, 1.0, 1.0)
        store3(sum_b, sb_i, at_b, mask, bp, 1.0)
        store3(sum_b + channels, sb_i, at_b, mask, bi, 1.0)
    total = zp * zp + zi * zi + tl.abs(square(vp)) + tl.abs(square(vi))
    total += tl.abs(sum_of_squares(bi) - sum_of_squares(bp))
    f = 1.0 / tl.sqrt(tl.maximum(tl.sum(total, 1) / channels, epsilon))
    tl.store(factor + token, f, mask=in_t)
    f = (f * gain)[:, None]
    g2 = f * _gain(weight, 2, c, in_c, HAS_WEIGHT)
    place = out_z + t * oz_t + c
    tl.store(place, zp * f * _gain(weight, 0, c, in_c, HAS_WEIGHT), mask=mask)
    tl.store(place + channels, zi * f * _gain(weight, 4, c, in_c, HAS_WEIGHT), mask=mask)
    at_v, at_b = t * ov_t + c, t * ob_t + c
    store4(
        out_v,
        ov_i,
        at_v,
        mask,
        vp,
        f * _gain(weight, 1, c, in_c, HAS_WEIGHT),
        f * _gain(weight, 1, c, in_c, HAS_WEIGHT),
    )
    store4(
        out_v + channels,
        ov_i,
        at_v,
        mask,
        vi,
        f * _gain(weight, 3, c, in_c, HAS_WEIGHT),
        f * _gain(weight, 3, c, in_c, HAS_WEIGHT),
    )
    store3(out_b, ob_i, at_b, mask, bp, g2)
    store3(out_b + channels, ob_i, at_b, mask, bi, g2)
    if BLOCK_S > 0:
        s = tl.arange(0, BLOCK_S)[None, :]
        mask_s = in_t[:, None] & (s < scalars)
        place = z + t * z_t + 2 * channels
        x = tl.load(place + s, mask=mask_s, other=0.0).to(tl.float32)
        # See scalar_moments in C++.
        first = tl.load(place, mask=in_t[:, None], other=0.0).to(tl.float32)
        if HAS_SUM:
            place = hz + t * hz_t + 2 * channels
            x += tl.load(place + s, mask=mask_s, other=0.0)
            first += tl.load(place, mask=in_t[:, None], other=0.0)
            tl.store(sum_z + t * sz_t + 2 * channels + s, x, mask=mask_s)
        m = first + (tl.sum(tl.where(mask_s, x - first, 0.0), 1) / scalars)[:, None]
        centred = tl.where(mask_s, x - m, 0.0)
        r = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / scalars + layer_norm_epsilon)
        tl.store(mean + t, m, mask=in_t[:, None])
        tl.store(deviation + token, r, mask=in_t)
        if HAS_WEIGHT_S:
            centred *= tl.load(weight_s + s, mask=s < scalars, other=0.0).to(tl.float32)
        tl.store(out_z + t * oz_t + 2 * channels + s, centred * r[:, None], mask=mask_s)


@triton.jit
def _gradient4(g, scale, v, change):
    """scale g + change eta v, with eta = (1, -1, -1, -1)."""
    return (
        g[0] * scale + v[0] * change,
        g[1] * scale - v[1] * change,
        g[2] * scale - v[2] * change,
        g[3] * scale - v[3] * change,
    )


@triton.jit
def _gradient3(g, scale, b, change):
    return g[0] * scale + b[0] * change, g[1] * scale + b[1] * change, g[2] * scale + b[2] * change


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def gradient_kernel(
    z, v, b, weight, weight_s, gz, gv, gb, pz, pv, pb, factor, mean, deviation,
    dz, dv, db, of_weights,
    z_t, v_i, v_t, b_i, b_t, gz_t, gv_i, gv_t, gb_i, gb_t,
    pz_t, pv_i, pv_t, pb_i, pb_t, dz_t, dv_i, dv_t, db_i, db_t,
    tokens, channels, scalars, limit, gain,
    HAS_SUM: tl.constexpr, HAS_WEIGHT: tl.constexpr, HAS_WEIGHT_S: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    """Its gradients for several tiles of tokens; of the gains ``(C, 5)`` and ``(S,)`` a part.

    The gradient ``p`` that the sum got besides is added to that of the state.
    """
    c = tl.arange(0, BLOCK_C)[None, :]
    in_c = c < channels
    w0, w1 = _gain(weight, 0, c, in_c, HAS_WEIGHT), _gain(weight, 1, c, in_c, HAS_WEIGHT)
    w2, w3 = _gain(weight, 2, c, in_c, HAS_WEIGHT), _gain(weight, 3, c, in_c, HAS_WEIGHT)
    w4 = _gain(weight, 4, c, in_c, HAS_WEIGHT)
    d0 = tl.zeros([BLOCK_T, BLOCK_C], tl.float32)
    d1 = tl.zeros([BLOCK_T, BLOCK_C], tl.float32)
    d2 = tl.zeros([BLOCK_T, BLOCK_C], tl.float32)
    d3 = tl.zeros([BLOCK_T, BLOCK_C], tl.float32)
    d4 = tl.zeros([BLOCK_T, BLOCK_C], tl.float32)
    if BLOCK_S > 0:
        s = tl.arange(0, BLOCK_S)[None, :]
        ds = tl.zeros([BLOCK_T, BLOCK_S], tl.float32)
        ws = tl.where(s < scalars, 1.0, 0.0)
        if HAS_WEIGHT_S:
            ws = tl.load(weight_s + s, mask=s < scalars, other=0.0).to(tl.float32)
    pid = tl.program_id(0)
    start = pid.to(tl.int64) * BLOCK_T
    # Places inside of a tile are small numbers, which need half the registers.
    token = tl.arange(0, BLOCK_T)
    t = token[:, None]
    while start < tokens:
        in_t = token < tokens - start
        mask = in_t[:, None] & in_c
        x, at = z + start * z_t, t * z_t + c
        zp = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        zi = tl.load(x + channels + at, mask=mask, other=0.0).to(tl.float32)
        x, at = v + start * v_t, t * v_t + c
        vp, vi = load4(x, v_i, at, mask), load4(x + channels, v_i, at, mask)
        x, at = b + start * b_t, t * b_t + c
        bp, bi = load3(x, b_i, at, mask), load3(x + channels, b_i, at, mask)
        x, at = gz + start * gz_t, t * gz_t + c
        hp = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        hi = tl.load(x + channels + at, mask=mask, other=0.0).to(tl.float32)
        x, at = gv + start * gv_t, t * gv_t + c
        up, ui = load4(x, gv_i, at, mask), load4(x + channels, gv_i, at, mask)
        x, at = gb + start * gb_t, t * gb_t + c
        ap, ai = load3(x, gb_i, at, mask), load3(x + channels, gb_i, at, mask)
        f = tl.load(factor + start + token, mask=in_t, other=0.0)
        p0, p4, p1, p3 = hp * zp, hi * zi, dot4(up, vp), dot4(ui, vi)
        p2 = dot3(ap, bp) + dot3(ai, bi)
        scale = (f * gain)[:, None]
        d0 += scale * p0
        d1 += scale * p1
        d2 += scale * p2
        d3 += scale * p3
        d4 += scale * p4
        inner = tl.sum(p0 * w0 + p1 * w1 + p2 * w2 + p3 * w3 + p4 * w4, 1)
        through = tl.where(f < limit, -gain * f * f * f * inner / channels, 0.0)[:, None]
        to, at = dz + start * dz_t, t * dz_t + c
        hp, hi = hp * scale * w0 + zp * through, hi * scale * w4 + zi * through
        if HAS_SUM:
            more, place = pz + start * pz_t, t * pz_t + c
            hp += tl.load(more + place, mask=mask, other=0.0)
            hi += tl.load(more + channels + place, mask=mask, other=0.0)
        tl.store(to + at, hp, mask=mask)
        tl.store(to + channels + at, hi, mask=mask)
        up = _gradient4(up, scale * w1, vp, sign(square(vp)) * through)
        ui = _gradient4(ui, scale * w3, vi, sign(square(vi)) * through)
        if HAS_SUM:
            more, place = pv + start * pv_t, t * pv_t + c
            up = sum4(up, load4(more, pv_i, place, mask))
            ui = sum4(ui, load4(more + channels, pv_i, place, mask))
        to, at = dv + start * dv_t, t * dv_t + c
        store4(to, dv_i, at, mask, up, 1.0, 1.0)
        store4(to + channels, dv_i, at, mask, ui, 1.0, 1.0)
        change = sign(sum_of_squares(bi) - sum_of_squares(bp)) * through
        ap, ai = _gradient3(ap, scale * w2, bp, -change), _gradient3(ai, scale * w2, bi, change)
        if HAS_SUM:
            more, place = pb + start * pb_t, t * pb_t + c
            ap = sum3(ap, load3(more, pb_i, place, mask))
            ai = sum3(ai, load3(more + channels, pb_i, place, mask))
        to, at = db + start * db_t, t * db_t + c
        store3(to, db_i, at, mask, ap, 1.0)
        store3(to + channels, db_i, at, mask, ai, 1.0)
        if BLOCK_S > 0:
            mask_s = in_t[:, None] & (s < scalars)
            at = start * z_t + 2 * channels
            q = tl.load(z + at + (t * z_t + s), mask=mask_s, other=0.0).to(tl.float32)
            at = start * gz_t + 2 * channels
            h = tl.load(gz + at + (t * gz_t + s), mask=mask_s, other=0.0).to(tl.float32)
            r = tl.load(deviation + start + t, mask=in_t[:, None], other=0.0)
            m = tl.load(mean + start + t, mask=in_t[:, None], other=0.0)
            y = tl.where(mask_s, (q - m) * r, 0.0)
            ds += h * y
            h = h * ws
            first = (tl.sum(h, 1) / scalars)[:, None]
            second = (tl.sum(h * y, 1) / scalars)[:, None]
            h = (h - first - y * second) * r
            if HAS_SUM:
                more = pz + start * pz_t + 2 * channels
                h += tl.load(more + (t * pz_t + s), mask=mask_s, other=0.0)
            to = dz + start * dz_t + 2 * channels
            tl.store(to + (t * dz_t + s), h, mask=mask_s)
        start += tl.num_programs(0) * BLOCK_T
    if HAS_WEIGHT:
        c = tl.arange(0, BLOCK_C)
        place = of_weights + pid * (5 * channels + scalars) + 5 * c
        tl.store(place, tl.sum(d0, 0), mask=c < channels)
        tl.store(place + 1, tl.sum(d1, 0), mask=c < channels)
        tl.store(place + 2, tl.sum(d2, 0), mask=c < channels)
        tl.store(place + 3, tl.sum(d3, 0), mask=c < channels)
        tl.store(place + 4, tl.sum(d4, 0), mask=c < channels)
    if BLOCK_S > 0:
        if HAS_WEIGHT_S:
            s = tl.arange(0, BLOCK_S)
            place = of_weights + pid * (5 * channels + scalars) + 5 * channels + s
            tl.store(place, tl.sum(ds, 0), mask=s < scalars)
