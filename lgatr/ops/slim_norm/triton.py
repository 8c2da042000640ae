"""The joint norm of four-vectors and scalars on CUDA: one launch forward, one backward.

A program takes some tokens at once. Backward it takes such blocks in turn and adds up the gradient
of the gains in registers; the few partial sums are added in a fixed order, and results do not vary
from run to run. Numbers of channels are constants of the kernels: they decide how wide loads are.

Legend: T tokens, C vector channels, S scalar channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from torch import Tensor

from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.launch import Kernel
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, block, ceil_div, rows_of
from lgatr.ops._runtime.tuning import Options, Tuned

if TYPE_CHECKING:
    from lgatr.ops.slim_norm.stage import SlimNorm

# Numbers of a tile, vectors and scalars, and warps for it.
_FORWARD = Tuned(
    "slim norm",
    (
        {"numbers": 2048, "num_warps": 4},
        {"numbers": 1024, "num_warps": 4},
        {"numbers": 4096, "num_warps": 8},
        {"numbers": 512, "num_warps": 1},
    ),
)
_BACKWARD = Tuned(
    "slim norm gradient",
    (
        {"numbers": 2048, "num_warps": 4},
        {"numbers": 1024, "num_warps": 4},
        {"numbers": 4096, "num_warps": 8},
        {"numbers": 512, "num_warps": 2},
    ),
)
_PROGRAMS = 1024
"""Programs of the backward pass, at most."""


@triton.jit
def _load4(x, at, mask, C: tl.constexpr):
    """The components of four-vectors."""
    return (
        tl.load(x + at, mask=mask, other=0.0),
        tl.load(x + at + C, mask=mask, other=0.0),
        tl.load(x + at + 2 * C, mask=mask, other=0.0),
        tl.load(x + at + 3 * C, mask=mask, other=0.0),
    )


@triton.jit
def _square(v):
    return v[0] * v[0] - v[1] * v[1] - v[2] * v[2] - v[3] * v[3]


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def _norm_kernel(
    v, s, weight_v, weight_s, out_v, out_s, factor, tokens, epsilon,
    C: tl.constexpr, S: tl.constexpr, GAINS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    inside, row = t < tokens, t[:, None]
    c, j = tl.arange(0, BLOCK_C)[None, :], tl.arange(0, BLOCK_S)[None, :]
    mask, mask_s = inside[:, None] & (c < C), inside[:, None] & (j < S)
    at, at_s = row * (4 * C) + c, row * S + j
    x = _load4(v, at, mask, C)
    y = tl.load(s + at_s, mask=mask_s, other=0.0)
    total = tl.sum(tl.abs(_square(x)), 1) + tl.sum(y * y, 1)
    f = 1.0 / tl.sqrt(total * (1.0 / (C + S)) + epsilon)
    tl.store(factor + t, f, mask=inside)
    scale, scale_s = f[:, None], f[:, None]
    if GAINS:
        scale = scale * tl.load(weight_v + c, mask=c < C, other=0.0)
        scale_s = scale_s * tl.load(weight_s + j, mask=j < S, other=0.0)
    tl.store(out_v + at, x[0] * scale, mask=mask)
    tl.store(out_v + at + C, x[1] * scale, mask=mask)
    tl.store(out_v + at + 2 * C, x[2] * scale, mask=mask)
    tl.store(out_v + at + 3 * C, x[3] * scale, mask=mask)
    tl.store(out_s + at_s, y * scale_s, mask=mask_s)


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def _gradient_kernel(
    v, s, gv, gs, factor, weight_v, weight_s, of_v, of_s, of_weights, tokens,
    C: tl.constexpr, S: tl.constexpr, GAINS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    c, j = tl.arange(0, BLOCK_C)[None, :], tl.arange(0, BLOCK_S)[None, :]
    if GAINS:
        w = tl.load(weight_v + c, mask=c < C, other=0.0)
        w_s = tl.load(weight_s + j, mask=j < S, other=0.0)
        sums = tl.zeros([BLOCK_T, BLOCK_C], tl.float32)
        sums_s = tl.zeros([BLOCK_T, BLOCK_S], tl.float32)
    first = tl.program_id(0).to(tl.int64) * BLOCK_T
    while first < tokens:
        t = first + tl.arange(0, BLOCK_T)
        inside, row = t < tokens, t[:, None]
        mask, mask_s = inside[:, None] & (c < C), inside[:, None] & (j < S)
        at, at_s = row * (4 * C) + c, row * S + j
        x, g = _load4(v, at, mask, C), _load4(gv, at, mask, C)
        y = tl.load(s + at_s, mask=mask_s, other=0.0)
        h = tl.load(gs + at_s, mask=mask_s, other=0.0)
        f = tl.load(factor + t, mask=inside, other=0.0)
        dot = g[0] * x[0] + g[1] * x[1] + g[2] * x[2] + g[3] * x[3]
        dot_s = h * y
        scale, scale_s = f[:, None], f[:, None]
        if GAINS:
            sums += scale * dot
            sums_s += scale * dot_s
            scale, scale_s = scale * w, scale_s * w_s
            dot, dot_s = dot * w, dot_s * w_s
        inner = tl.sum(dot, 1) + tl.sum(dot_s, 1)
        back = (-f * f * f * inner * (1.0 / (C + S)))[:, None]
        size = _square(x)
        change = tl.where(size > 0, back, tl.where(size < 0, -back, 0.0))
        tl.store(of_v + at, g[0] * scale + x[0] * change, mask=mask)
        tl.store(of_v + at + C, g[1] * scale - x[1] * change, mask=mask)
        tl.store(of_v + at + 2 * C, g[2] * scale - x[2] * change, mask=mask)
        tl.store(of_v + at + 3 * C, g[3] * scale - x[3] * change, mask=mask)
        tl.store(of_s + at_s, h * scale_s + y * back, mask=mask_s)
        first += tl.num_programs(0) * BLOCK_T
    if GAINS:
        place = of_weights + tl.program_id(0) * (C + S)
        tl.store(place + tl.arange(0, BLOCK_C), tl.sum(sums, 0), mask=tl.arange(0, BLOCK_C) < C)
        j = tl.arange(0, BLOCK_S)
        tl.store(place + C + j, tl.sum(sums_s, 0), mask=j < S)


def _constants(v: Tensor, s: Tensor, gains: bool, options: Options) -> dict[str, int | bool]:
    """Constants and options of a launch."""
    c, n = v.shape[-1], s.shape[-1]
    return {
        "C": c, "S": n, "GAINS": gains,
        "BLOCK_T": rows_of(options["numbers"], 4 * block(c) + block(n)),
        "BLOCK_C": block(c), "BLOCK_S": block(n), "num_warps": options["num_warps"], **FUSED,
    }  # fmt: skip


def slim_norm(
    settings: SlimNorm, v: Tensor, s: Tensor, weight_v: Tensor | None, weight_s: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass; keeps the factor of each token."""
    v, s = v.contiguous(), s.contiguous()
    out_v, out_s, factor = v.new_empty(v.shape), s.new_empty(s.shape), s.new_empty(s.shape[:-1])
    tokens, gains = factor.numel(), weight_v is not None and weight_s is not None
    weights = [None if w is None else w.contiguous() for w in (weight_v, weight_s)]

    def launch(options: Options) -> None:
        constants = _constants(v, s, gains, options)
        _norm_kernel[(ceil_div(tokens, int(constants["BLOCK_T"])),)](
            v, s, *weights, out_v, out_s, factor, tokens, settings.epsilon, **constants
        )

    _FORWARD(v, (v.shape[-1], s.shape[-1]), launch)
    return (out_v, out_s), (factor,)


def slim_norm_gradients(
    settings: SlimNorm, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    v, s, weight_v, weight_s = (None if x is None else x.contiguous() for x in inputs)
    assert v is not None and s is not None
    gv, gs = (g.contiguous() for g in grads)
    (factor,) = kept
    tokens, c, n = factor.numel(), v.shape[-1], s.shape[-1]
    gains = weight_v is not None and weight_s is not None
    of_v, of_s = v.new_empty(v.shape), s.new_empty(s.shape)
    partial: list[Tensor] = []

    def launch(options: Options) -> None:
        constants = _constants(v, s, gains, options)
        programs = min(_PROGRAMS, ceil_div(tokens, int(constants["BLOCK_T"])))
        sums = v.new_empty(programs if gains else 0, c + n)
        partial[:] = [sums]
        _gradient_kernel[(programs,)](
            v, s, gv, gs, factor, weight_v, weight_s, of_v, of_s, sums, tokens, **constants
        )

    _BACKWARD(v, (c, n), launch)
    if not gains:
        return of_v, of_s, None, None
    return of_v, of_s, *partial[0].sum(0).split((c, n))


SLIM_NORM = Passes(slim_norm, slim_norm_gradients)
