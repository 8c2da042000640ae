"""Heads on CUDA: norm, signs and flattening of all heads of a token in one pass, and back.

A program takes one token; its tile is (heads, channels of a head), once for p and once for p I of
each pair.

Legend: T tokens, N heads of all parts, c and S multivector and scalar channels of a head, w = 2 c.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.triton import FUSED, power_of_two
from lgatr.ops._runtime.triton_launch import Kernel
from lgatr.ops._runtime.triton_vectors import (
    dot3,
    dot4,
    load,
    load3,
    load4,
    sign,
    square,
    store3,
    store4,
    sum_of_squares,
)
from lgatr.ops._runtime.tuning import Options, Tuned


@Kernel
@triton.jit
def _heads_kernel(
    z, v, b, heads, factors, deviations,
    z_t, v_i, v_t, b_i, b_t, groups, c, scalars, epsilon, epsilon_s, per_part,
    METRIC: tl.constexpr, NORM: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    row = tl.arange(0, BLOCK_N)
    n, i = row[:, None], tl.arange(0, BLOCK_C)[None, :]
    mask = (n < groups) & (i < c)
    w = 2 * c
    at_z, at = n * (w + scalars) + i, n * w + i
    zp, zi = load(z + t * z_t, at_z, mask), load(z + t * z_t, at_z + c, mask)
    vp, vi = load4(v + t * v_t, v_i, at, mask), load4(v + t * v_t, v_i, at + c, mask)
    bp, bi = load3(b + t * b_t, b_i, at, mask), load3(b + t * b_t, b_i, at + c, mask)
    f = tl.where(row < groups, 1.0, 0.0)
    if NORM:
        total = zp * zp + zi * zi + tl.abs(square(vp)) + tl.abs(square(vi))
        total += tl.abs(sum_of_squares(bi) - sum_of_squares(bp))
        f = 1.0 / tl.sqrt(tl.maximum(tl.sum(total, 1) / c, epsilon))
    tl.store(factors + t * groups + row, f, mask=row < groups)
    flip = tl.where(((METRIC >> (row // per_part)) & 1) == 1, -f, f)
    f, flip = f[:, None], flip[:, None]
    out = heads + t * groups * (8 * w + scalars)
    place = n * (8 * w + scalars) + i
    tl.store(out + place, zp * f, mask=mask)
    tl.store(out + place + c, zi * flip, mask=mask)
    store4(out, w, place + w + scalars, mask, vp, f, flip)
    store4(out, w, place + w + scalars + c, mask, vi, flip, f)
    store3(out, w, place + 5 * w + scalars, mask, bp, flip)
    store3(out, w, place + 5 * w + scalars + c, mask, bi, f)
    if BLOCK_S > 0:
        j = tl.arange(0, BLOCK_S)[None, :]
        mask_s = (n < groups) & (j < scalars)
        s = load(z + t * z_t, n * (w + scalars) + w + j, mask_s)
        if NORM:
            # From the first scalar, so that equal scalars have exactly their mean.
            first = load(z + t * z_t, n * (w + scalars) + w, n < groups)
            mean = first + (tl.sum(tl.where(mask_s, s - first, 0.0), 1) / scalars)[:, None]
            s = tl.where(mask_s, s - mean, 0.0)
            r = 1.0 / tl.sqrt(tl.sum(s * s, 1) / scalars + epsilon_s)
            tl.store(deviations + t * groups + row, r, mask=row < groups)
            s = s * r[:, None]
        tl.store(out + n * (8 * w + scalars) + w + j, s, mask=mask_s)


@triton.jit
def _gradient4(x, row, at, mask, g, y, scale, scale_later, through, through_later):
    """g + sign(y^2) eta y through the norm, each with its factors."""
    side = sign(square(y))
    tl.store(x + at, g[0] * scale + y[0] * side * through, mask=mask)
    tl.store(x + at + row, g[1] * scale_later - y[1] * side * through_later, mask=mask)
    tl.store(x + at + 2 * row, g[2] * scale_later - y[2] * side * through_later, mask=mask)
    tl.store(x + at + 3 * row, g[3] * scale_later - y[3] * side * through_later, mask=mask)


@triton.jit
def _gradient3(x, row, at, mask, g, y, scale, change):
    tl.store(x + at, g[0] * scale + y[0] * change, mask=mask)
    tl.store(x + at + row, g[1] * scale + y[1] * change, mask=mask)
    tl.store(x + at + 2 * row, g[2] * scale + y[2] * change, mask=mask)


@Kernel
@triton.jit
def _gradient_kernel(
    heads, grads, z, v, b, factors, deviations,
    z_t, v_i, v_t, b_i, b_t, groups, c, scalars, limit, per_part,
    METRIC: tl.constexpr, NORM: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    row = tl.arange(0, BLOCK_N)
    n, i = row[:, None], tl.arange(0, BLOCK_C)[None, :]
    mask = (n < groups) & (i < c)
    w = 2 * c
    wide = 8 * w + scalars
    y, g = heads + t * groups * wide, grads + t * groups * wide
    place = n * wide + i
    yp, yi = load(y, place, mask), load(y, place + c, mask)
    gp, gi = load(g, place, mask), load(g, place + c, mask)
    at = place + w + scalars
    up, ui = load4(y, w, at, mask), load4(y, w, at + c, mask)
    hp, hi = load4(g, w, at, mask), load4(g, w, at + c, mask)
    at = place + 5 * w + scalars
    ap, ai = load3(y, w, at, mask), load3(y, w, at + c, mask)
    kp, ki = load3(g, w, at, mask), load3(g, w, at + c, mask)
    f = tl.load(factors + t * groups + row, mask=row < groups, other=0.0)
    through = tl.zeros([BLOCK_N], tl.float32)
    if NORM:
        inner = gp * yp + gi * yi + dot4(hp, up) + dot4(hi, ui) + dot3(kp, ap) + dot3(ki, ai)
        through = tl.where(f < limit, -f * tl.sum(inner, 1) / c, 0.0)
    negative = ((METRIC >> (row // per_part)) & 1) == 1
    mf, mt = tl.where(negative, -f, f)[:, None], tl.where(negative, -through, through)[:, None]
    f, through = f[:, None], through[:, None]
    at = n * (w + scalars) + i
    tl.store(z + t * z_t + at, gp * f + yp * through, mask=mask)
    tl.store(z + t * z_t + at + c, gi * mf + yi * mt, mask=mask)
    at = n * w + i
    _gradient4(v + t * v_t, v_i, at, mask, hp, up, f, mf, through, mt)
    _gradient4(v + t * v_t, v_i, at + c, mask, hi, ui, mf, f, mt, through)
    axial = sign(sum_of_squares(ai) - sum_of_squares(ap))
    _gradient3(b + t * b_t, b_i, at, mask, kp, ap, mf, -axial * mt)
    _gradient3(b + t * b_t, b_i, at + c, mask, ki, ai, f, axial * through)
    if BLOCK_S > 0:
        j = tl.arange(0, BLOCK_S)[None, :]
        mask_s = (n < groups) & (j < scalars)
        s, h = load(y, n * wide + w + j, mask_s), load(g, n * wide + w + j, mask_s)
        if NORM:
            r = tl.load(deviations + t * groups + row, mask=row < groups, other=0.0)[:, None]
            first = (tl.sum(h, 1) / scalars)[:, None]
            second = (tl.sum(h * s, 1) / scalars)[:, None]
            h = (h - first - s * second) * r
        tl.store(z + t * z_t + n * (w + scalars) + w + j, h, mask=mask_s)


@Kernel
@triton.jit
def _move_kernel(
    heads, z, v, b, z_t, v_i, v_t, b_i, b_t, groups, split, w,
    BACK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_Z: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Rows of each head side by side from a state, or back."""
    t = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, BLOCK_N)[:, None]
    wide = split + 7 * w
    packed = heads + t * groups * wide
    i = tl.arange(0, BLOCK_Z)[None, :]
    mask = (n < groups) & (i < split)
    if BACK:
        tl.store(packed + n * wide + i, tl.load(z + t * z_t + n * split + i, mask=mask), mask=mask)
    else:
        tl.store(z + t * z_t + n * split + i, tl.load(packed + n * wide + i, mask=mask), mask=mask)
    i = tl.arange(0, BLOCK_W)[None, :]
    mask = (n < groups) & (i < w)
    for k in tl.static_range(7):
        here = packed + n * wide + split + k * w + i
        if k < 4:
            there = v + t * v_t + k * v_i + n * w + i
        else:
            there = b + t * b_t + (k - 4) * b_i + n * w + i
        if BACK:
            tl.store(here, tl.load(there, mask=mask), mask=mask)
        else:
            tl.store(there, tl.load(here, mask=mask), mask=mask)


def _strides(x: Sectors) -> tuple[int, ...]:
    return x.z.stride(0), x.v.stride(0), x.v.stride(1), x.b.stride(0), x.b.stride(1)


# A token's tile has some thousand numbers with the published heads, fewer in small networks.
_CANDIDATES = ({"num_warps": 8}, {"num_warps": 2})
_FORWARD, _BACKWARD = Tuned("heads", _CANDIDATES), Tuned("heads gradient", _CANDIDATES)
_MOVE = Tuned("heads as they are", ({"num_warps": 2},))


class Heads:
    """The kernels between matrix products and heads ``(T, N, D)``.

    Parameters
    ----------
    groups, width, scalars
        N heads of all parts, numbers of a row of pairs, and scalars of each.
    per_part, metric
        Heads of each part, and whether it gets the signs of the inner product.
    epsilon
        Floor of the mean squared norm; None leaves the heads as they are.
    """

    def __init__(
        self,
        groups: int,
        width: int,
        scalars: int,
        per_part: int = 1,
        metric: tuple[bool, ...] = (),
        epsilon: float | None = None,
    ) -> None:
        self.groups, self.width, self.scalars = groups, width, scalars
        self.per_part = per_part
        self.metric = sum(1 << part for part, flip in enumerate(metric) if flip)
        self.epsilon = epsilon

    def _sizes(self) -> tuple[int, ...]:
        return self.groups, self.width, self.scalars

    def _options(self) -> dict[str, Any]:
        return {
            "METRIC": self.metric,
            "NORM": self.epsilon is not None,
            "BLOCK_N": power_of_two(self.groups),
            "BLOCK_C": power_of_two(max(self.width // 2, 1)),
            "BLOCK_S": power_of_two(self.scalars) if self.scalars else 0,
            **FUSED,
        }

    def forward(
        self, x: Sectors, heads: Tensor, factors: Tensor, scales: Tensor, epsilon_s: float
    ) -> None:
        """Normalise, sign and flatten a state ordered by head."""

        def launch(options: Options) -> None:
            _heads_kernel[(len(heads),)](
                *x, heads, factors, scales, *_strides(x), self.groups, self.width // 2,
                self.scalars, float(self.epsilon or 0.0), float(epsilon_s), self.per_part,
                **self._options(), **options,
            )  # fmt: skip

        _FORWARD(heads, self._sizes(), launch)

    def backward(
        self, heads: Tensor, grad: Tensor, out: Sectors, kept: tuple[Tensor, Tensor], limit: float
    ) -> None:
        """Write the gradient of the state into ``out``, given heads and their gradients."""

        def launch(options: Options) -> None:
            _gradient_kernel[(len(heads),)](
                heads, grad, *out, *kept, *_strides(out), self.groups, self.width // 2,
                self.scalars, float(limit), self.per_part, **self._options(), **options,
            )  # fmt: skip

        _BACKWARD(heads, self._sizes(), launch)

    def unpack(self, heads: Tensor, out: Sectors) -> None:
        """Heads to a state ordered by head, as they are."""
        self._move(out, heads, False)

    def pack(self, x: Sectors, heads: Tensor) -> None:
        """Undo :meth:`unpack`."""
        self._move(x, heads, True)

    def _move(self, x: Sectors, heads: Tensor, back: bool) -> None:
        split = self.width + self.scalars

        def launch(options: Options) -> None:
            _move_kernel[(len(heads),)](
                heads, *x, *_strides(x), self.groups, split, self.width, BACK=back,
                BLOCK_N=power_of_two(self.groups), BLOCK_Z=power_of_two(split),
                BLOCK_W=power_of_two(max(self.width, 1)), **options, **FUSED,
            )  # fmt: skip

        _MOVE(heads, (*self._sizes(), int(back)), launch)
