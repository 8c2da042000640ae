"""The equivariant layer norm on CUDA: one pass over the state forward, one backward.

A program takes one token forward, and several backward, so that it can add up the gradient of the
gains in registers; the few partial sums are added in a fixed order, and results do not vary from
run to run.

Legend: T tokens, C multivector channels, S scalar channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from lgatr.layout import Sectors, flat, unflat
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, strides
from lgatr.ops._runtime.tuning import Options, Tuned
from lgatr.ops.norm.formula import SCALAR_EPSILON, floor_factor

if TYPE_CHECKING:
    from lgatr.ops.norm.stage import Norm

# One warp is two to four times as fast as four with 16 and 32 channels; wide states want more.
_CANDIDATES = ({"num_warps": 1}, {"num_warps": 4})
_FORWARD, _BACKWARD = Tuned("norm", _CANDIDATES), Tuned("norm gradient", _CANDIDATES)
_PROGRAMS = 4096
"""Programs of the backward pass, at most."""


@triton.jit
def _rows4(x, row, c, mask):
    """Four rows of one half of the pairs."""
    return (
        tl.load(x + c, mask=mask, other=0.0).to(tl.float32),
        tl.load(x + row + c, mask=mask, other=0.0).to(tl.float32),
        tl.load(x + 2 * row + c, mask=mask, other=0.0).to(tl.float32),
        tl.load(x + 3 * row + c, mask=mask, other=0.0).to(tl.float32),
    )


@triton.jit
def _rows3(x, row, c, mask):
    return (
        tl.load(x + c, mask=mask, other=0.0).to(tl.float32),
        tl.load(x + row + c, mask=mask, other=0.0).to(tl.float32),
        tl.load(x + 2 * row + c, mask=mask, other=0.0).to(tl.float32),
    )


@triton.jit
def _square(v):
    return v[0] * v[0] - v[1] * v[1] - v[2] * v[2] - v[3] * v[3]


@triton.jit
def _sum_of_squares(b):
    return b[0] * b[0] + b[1] * b[1] + b[2] * b[2]


@triton.jit
def _dot4(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]


@triton.jit
def _dot3(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@triton.jit
def _store4(x, row, c, mask, values, scale):
    tl.store(x + c, values[0] * scale, mask=mask)
    tl.store(x + row + c, values[1] * scale, mask=mask)
    tl.store(x + 2 * row + c, values[2] * scale, mask=mask)
    tl.store(x + 3 * row + c, values[3] * scale, mask=mask)


@triton.jit
def _store3(x, row, c, mask, values, scale):
    tl.store(x + c, values[0] * scale, mask=mask)
    tl.store(x + row + c, values[1] * scale, mask=mask)
    tl.store(x + 2 * row + c, values[2] * scale, mask=mask)


@triton.jit
def _gain(weight, grade: tl.constexpr, c, mask, HAS_WEIGHT: tl.constexpr):
    """The gain of a grade for each channel ``(C, 5)``, or one."""
    if HAS_WEIGHT:
        return tl.load(weight + 5 * c + grade, mask=mask, other=0.0).to(tl.float32)
    else:
        return tl.where(mask, 1.0, 0.0)


@triton.jit
def _sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def _norm_kernel(
    z, v, b, weight, weight_s, out_z, out_v, out_b, factor, mean, deviation,
    z_t, v_i, v_t, b_i, b_t, oz_t, ov_i, ov_t, ob_i, ob_t,
    channels, scalars, epsilon, gain, layer_norm_epsilon,
    HAS_WEIGHT: tl.constexpr, HAS_WEIGHT_S: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    mask = c < channels
    zp = tl.load(z + t * z_t + c, mask=mask, other=0.0).to(tl.float32)
    zi = tl.load(z + t * z_t + channels + c, mask=mask, other=0.0).to(tl.float32)
    vp = _rows4(v + t * v_t, v_i, c, mask)
    vi = _rows4(v + t * v_t + channels, v_i, c, mask)
    bp = _rows3(b + t * b_t, b_i, c, mask)
    bi = _rows3(b + t * b_t + channels, b_i, c, mask)
    total = zp * zp + zi * zi + tl.abs(_square(vp)) + tl.abs(_square(vi))
    total += tl.abs(_sum_of_squares(bi) - _sum_of_squares(bp))
    f = 1.0 / tl.sqrt(tl.maximum(tl.sum(total, 0) / channels, epsilon))
    tl.store(factor + t, f)
    f = f * gain
    g2 = f * _gain(weight, 2, c, mask, HAS_WEIGHT)
    tl.store(out_z + t * oz_t + c, zp * f * _gain(weight, 0, c, mask, HAS_WEIGHT), mask=mask)
    place = out_z + t * oz_t + channels + c
    tl.store(place, zi * f * _gain(weight, 4, c, mask, HAS_WEIGHT), mask=mask)
    place = out_v + t * ov_t
    _store4(place, ov_i, c, mask, vp, f * _gain(weight, 1, c, mask, HAS_WEIGHT))
    _store4(place + channels, ov_i, c, mask, vi, f * _gain(weight, 3, c, mask, HAS_WEIGHT))
    _store3(out_b + t * ob_t, ob_i, c, mask, bp, g2)
    _store3(out_b + t * ob_t + channels, ob_i, c, mask, bi, g2)
    if BLOCK_S > 0:
        s = tl.arange(0, BLOCK_S)
        mask_s = s < scalars
        x = tl.load(z + t * z_t + 2 * channels + s, mask=mask_s, other=0.0).to(tl.float32)
        first = tl.load(z + t * z_t + 2 * channels).to(tl.float32)  # see scalar_moments in C++
        m = first + tl.sum(tl.where(mask_s, x - first, 0.0), 0) / scalars
        centred = tl.where(mask_s, x - m, 0.0)
        r = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / scalars + layer_norm_epsilon)
        tl.store(mean + t, m)
        tl.store(deviation + t, r)
        if HAS_WEIGHT_S:
            centred *= tl.load(weight_s + s, mask=mask_s, other=0.0).to(tl.float32)
        tl.store(out_z + t * oz_t + 2 * channels + s, centred * r, mask=mask_s)


@triton.jit
def _store_gradient4(x, row, c, mask, g, scale, v, change):
    """scale g + change eta v, with eta = (1, -1, -1, -1)."""
    tl.store(x + c, g[0] * scale + v[0] * change, mask=mask)
    tl.store(x + row + c, g[1] * scale - v[1] * change, mask=mask)
    tl.store(x + 2 * row + c, g[2] * scale - v[2] * change, mask=mask)
    tl.store(x + 3 * row + c, g[3] * scale - v[3] * change, mask=mask)


@triton.jit
def _store_gradient3(x, row, c, mask, g, scale, b, change):
    tl.store(x + c, g[0] * scale + b[0] * change, mask=mask)
    tl.store(x + row + c, g[1] * scale + b[1] * change, mask=mask)
    tl.store(x + 2 * row + c, g[2] * scale + b[2] * change, mask=mask)


@triton.jit(do_not_specialize=["tokens"])
def _gradient_kernel(
    z, v, b, weight, weight_s, gz, gv, gb, factor, mean, deviation,
    dz, dv, db, of_weight, of_weight_s,
    z_t, v_i, v_t, b_i, b_t, gz_t, gv_i, gv_t, gb_i, gb_t, dz_t, dv_i, dv_t, db_i, db_t,
    tokens, channels, scalars, limit, gain,
    HAS_WEIGHT: tl.constexpr, HAS_WEIGHT_S: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    c = tl.arange(0, BLOCK_C)
    mask = c < channels
    w0, w1 = _gain(weight, 0, c, mask, HAS_WEIGHT), _gain(weight, 1, c, mask, HAS_WEIGHT)
    w2, w3 = _gain(weight, 2, c, mask, HAS_WEIGHT), _gain(weight, 3, c, mask, HAS_WEIGHT)
    w4 = _gain(weight, 4, c, mask, HAS_WEIGHT)
    d0 = tl.zeros([BLOCK_C], tl.float32)
    d1 = tl.zeros([BLOCK_C], tl.float32)
    d2 = tl.zeros([BLOCK_C], tl.float32)
    d3 = tl.zeros([BLOCK_C], tl.float32)
    d4 = tl.zeros([BLOCK_C], tl.float32)
    if BLOCK_S > 0:
        s = tl.arange(0, BLOCK_S)
        mask_s = s < scalars
        ds = tl.zeros([BLOCK_S], tl.float32)
        ws = tl.where(mask_s, 1.0, 0.0)
        if HAS_WEIGHT_S:
            ws = tl.load(weight_s + s, mask=mask_s, other=0.0).to(tl.float32)
    pid = tl.program_id(0)
    t = pid.to(tl.int64)
    while t < tokens:
        zp = tl.load(z + t * z_t + c, mask=mask, other=0.0).to(tl.float32)
        zi = tl.load(z + t * z_t + channels + c, mask=mask, other=0.0).to(tl.float32)
        vp = _rows4(v + t * v_t, v_i, c, mask)
        vi = _rows4(v + t * v_t + channels, v_i, c, mask)
        bp = _rows3(b + t * b_t, b_i, c, mask)
        bi = _rows3(b + t * b_t + channels, b_i, c, mask)
        hp = tl.load(gz + t * gz_t + c, mask=mask, other=0.0).to(tl.float32)
        hi = tl.load(gz + t * gz_t + channels + c, mask=mask, other=0.0).to(tl.float32)
        up = _rows4(gv + t * gv_t, gv_i, c, mask)
        ui = _rows4(gv + t * gv_t + channels, gv_i, c, mask)
        ap = _rows3(gb + t * gb_t, gb_i, c, mask)
        ai = _rows3(gb + t * gb_t + channels, gb_i, c, mask)
        f = tl.load(factor + t)
        p0, p4, p1, p3 = hp * zp, hi * zi, _dot4(up, vp), _dot4(ui, vi)
        p2 = _dot3(ap, bp) + _dot3(ai, bi)
        d0 += f * gain * p0
        d1 += f * gain * p1
        d2 += f * gain * p2
        d3 += f * gain * p3
        d4 += f * gain * p4
        inner = tl.sum(p0 * w0 + p1 * w1 + p2 * w2 + p3 * w3 + p4 * w4, 0)
        through = tl.where(f < limit, -gain * f * f * f * inner / channels, 0.0)
        scale = f * gain
        tl.store(dz + t * dz_t + c, hp * scale * w0 + zp * through, mask=mask)
        tl.store(dz + t * dz_t + channels + c, hi * scale * w4 + zi * through, mask=mask)
        place = dv + t * dv_t
        change = _sign(_square(vp)) * through
        _store_gradient4(place, dv_i, c, mask, up, scale * w1, vp, change)
        change = _sign(_square(vi)) * through
        _store_gradient4(place + channels, dv_i, c, mask, ui, scale * w3, vi, change)
        place = db + t * db_t
        change = _sign(_sum_of_squares(bi) - _sum_of_squares(bp)) * through
        _store_gradient3(place, db_i, c, mask, ap, scale * w2, bp, -change)
        _store_gradient3(place + channels, db_i, c, mask, ai, scale * w2, bi, change)
        if BLOCK_S > 0:
            x = tl.load(z + t * z_t + 2 * channels + s, mask=mask_s, other=0.0).to(tl.float32)
            h = tl.load(gz + t * gz_t + 2 * channels + s, mask=mask_s, other=0.0).to(tl.float32)
            r = tl.load(deviation + t)
            m = tl.load(mean + t)
            y = tl.where(mask_s, (x - m) * r, 0.0)
            ds += h * y
            h = h * ws
            first = tl.sum(h, 0) / scalars
            second = tl.sum(h * y, 0) / scalars
            tl.store(dz + t * dz_t + 2 * channels + s, (h - first - y * second) * r, mask=mask_s)
        t += tl.num_programs(0)
    if HAS_WEIGHT:
        place = of_weight + pid * 5 * channels + 5 * c
        tl.store(place, d0, mask=mask)
        tl.store(place + 1, d1, mask=mask)
        tl.store(place + 2, d2, mask=mask)
        tl.store(place + 3, d3, mask=mask)
        tl.store(place + 4, d4, mask=mask)
    if BLOCK_S > 0:
        if HAS_WEIGHT_S:
            tl.store(of_weight_s + pid * scalars + s, ds, mask=mask_s)


def _blocks(x: Sectors) -> dict[str, int]:
    s = x.s_channels
    return {
        "BLOCK_C": triton.next_power_of_2(max(x.mv_channels, 1)),
        "BLOCK_S": triton.next_power_of_2(s) if s else 0,
    }


def layer_norm(
    x: Sectors,
    weight: Tensor | None,
    weight_s: Tensor | None,
    epsilon: float,
    gain: float,
    layer_norm_epsilon: float,
) -> tuple[Sectors, tuple[Tensor, Tensor, Tensor]]:
    """The norm of ``z (T, .)``, ``v (4, T, .)``, ``b (3, T, .)``, channels side by side.

    Returns
    -------
    The normalised state, and what the gradient needs: the factor ``(T,)`` of the multivectors, mean
    and inverse deviation of the scalars.
    """
    out = Sectors(*(torch.empty_like(part) for part in x))
    tokens, like = len(x.z), x.z
    moments = [torch.empty(tokens, device=like.device, dtype=torch.float32) for _ in range(3)]

    def launch(options: Options) -> None:
        _norm_kernel[(tokens,)](
            *x, weight, weight_s, *out, *moments, *strides(x, out),
            x.mv_channels, x.s_channels, epsilon, gain, layer_norm_epsilon,
            HAS_WEIGHT=weight is not None, HAS_WEIGHT_S=weight_s is not None, **_blocks(x),
            **options, **FUSED,
        )  # fmt: skip

    if tokens:
        _FORWARD(like, (x.mv_channels, x.s_channels), launch)
    return out, (moments[0], moments[1], moments[2])


def layer_norm_gradients(
    x: Sectors,
    weight: Tensor | None,
    weight_s: Tensor | None,
    grad: Sectors,
    moments: tuple[Tensor, Tensor, Tensor],
    epsilon: float,
    gain: float,
) -> tuple[Sectors, Tensor | None, Tensor | None]:
    """The gradients of the state and of the gains."""
    out = Sectors(*(torch.empty_like(part) for part in x))
    tokens, c, s = len(x.z), x.mv_channels, x.s_channels
    programs = max(min(_PROGRAMS, tokens), 1)
    limit = floor_factor(epsilon, torch.float32)
    partial = torch.empty(programs, c, 5, device=x.z.device, dtype=torch.float32)
    partial_s = torch.empty(programs, s, device=x.z.device, dtype=torch.float32)

    def launch(options: Options) -> None:
        _gradient_kernel[(programs,)](
            *x, weight, weight_s, *grad, *moments, *out, partial, partial_s,
            *strides(x, grad, out), tokens, c, s, limit, gain,
            HAS_WEIGHT=weight is not None, HAS_WEIGHT_S=weight_s is not None, **_blocks(x),
            **options, **FUSED,
        )  # fmt: skip

    if tokens:
        _BACKWARD(x.z, (c, s), launch)
    of_weight = None if weight is None else partial.sum(0).to(weight.dtype)
    of_weight_s = None if weight_s is None else partial_s.sum(0).to(weight_s.dtype)
    return out, of_weight, of_weight_s


def norm(
    settings: Norm, z: Tensor, v: Tensor, b: Tensor, weight: Tensor | None, weight_s: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.norm.stage.Norm`."""
    x = Sectors(z, v, b)
    out, kept = layer_norm(
        flat(x), weight, weight_s, settings.epsilon, settings.gain, SCALAR_EPSILON
    )
    return tuple(unflat(out, x)), kept


def norm_gradients(
    settings: Norm, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    z, v, b, weight, weight_s = inputs
    assert z is not None and v is not None and b is not None
    x, moments = Sectors(z, v, b), (kept[0], kept[1], kept[2])
    out, of_weight, of_weight_s = layer_norm_gradients(
        flat(x), weight, weight_s, flat(Sectors(*grads)), moments, settings.epsilon, settings.gain
    )
    return *unflat(out, x), of_weight, of_weight_s


NORM = Passes(norm, norm_gradients)
