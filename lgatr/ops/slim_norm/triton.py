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
from lgatr.ops._runtime.stage import OfSum, Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, block, ceil_div, rows_of
from lgatr.ops._runtime.triton_launch import Kernel
from lgatr.ops._runtime.triton_vectors import load4, square, store4, sum4
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


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def _norm_kernel(
    v, s, more_v, more_s, weight_v, weight_s, sum_v, sum_s, out_v, out_s, factor, tokens, epsilon,
    C: tl.constexpr, S: tl.constexpr, GAINS: tl.constexpr, SUM: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    inside, row = t < tokens, t[:, None]
    c, j = tl.arange(0, BLOCK_C)[None, :], tl.arange(0, BLOCK_S)[None, :]
    mask, mask_s = inside[:, None] & (c < C), inside[:, None] & (j < S)
    at, at_s = row * (4 * C) + c, row * S + j
    x = load4(v, C, at, mask)
    y = tl.load(s + at_s, mask=mask_s, other=0.0)
    if SUM:
        x = sum4(x, load4(more_v, C, at, mask))
        y += tl.load(more_s + at_s, mask=mask_s, other=0.0)
        store4(sum_v, C, at, mask, x, 1.0, 1.0)
        tl.store(sum_s + at_s, y, mask=mask_s)
    total = tl.sum(tl.abs(square(x)), 1) + tl.sum(y * y, 1)
    f = 1.0 / tl.sqrt(total * (1.0 / (C + S)) + epsilon)
    tl.store(factor + t, f, mask=inside)
    scale, scale_s = f[:, None], f[:, None]
    if GAINS:
        scale = scale * tl.load(weight_v + c, mask=c < C, other=0.0)
        scale_s = scale_s * tl.load(weight_s + j, mask=j < S, other=0.0)
    store4(out_v, C, at, mask, (x[0] * scale, x[1] * scale, x[2] * scale, x[3] * scale), 1.0, 1.0)
    tl.store(out_s + at_s, y * scale_s, mask=mask_s)


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def _gradient_kernel(
    v, s, gv, gs, more_v, more_s, factor, weight_v, weight_s, of_v, of_s, of_weights, tokens,
    C: tl.constexpr, S: tl.constexpr, GAINS: tl.constexpr, SUM: tl.constexpr,
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
        x, g = load4(v, C, at, mask), load4(gv, C, at, mask)
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
        size = square(x)
        change = tl.where(size > 0, back, tl.where(size < 0, -back, 0.0))
        g = (
            g[0] * scale + x[0] * change,
            g[1] * scale - x[1] * change,
            g[2] * scale - x[2] * change,
            g[3] * scale - x[3] * change,
        )
        h = h * scale_s + y * back
        if SUM:  # and the gradient that the sum got besides
            g = sum4(g, load4(more_v, C, at, mask))
            h += tl.load(more_s + at_s, mask=mask_s, other=0.0)
        store4(of_v, C, at, mask, g, 1.0, 1.0)
        tl.store(of_s + at_s, h, mask=mask_s)
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


State = tuple[Tensor, Tensor]


def _norm(
    epsilon: float, x: Optionals, more: Optionals, weights: Optionals
) -> tuple[State, State, Tensor]:
    """The sum of two states or ``x`` alone, its norm, and the factor of each token."""
    v, s = (part.contiguous() for part in x if part is not None)
    more = [None if part is None else part.contiguous() for part in more]
    out = v.new_empty(v.shape), s.new_empty(s.shape)
    added = more[0] is not None
    total = (v.new_empty(v.shape), s.new_empty(s.shape)) if added else (v, s)
    factor = s.new_empty(s.shape[:-1])
    tokens, gains = factor.numel(), weights[0] is not None and weights[1] is not None
    weights = [None if w is None else w.contiguous() for w in weights]

    def launch(options: Options) -> None:
        constants = _constants(v, s, gains, options)
        _norm_kernel[(ceil_div(tokens, int(constants["BLOCK_T"])),)](
            v, s, *more, *weights, *(total if added else (None, None)), *out, factor, tokens,
            epsilon, SUM=added, **constants,
        )  # fmt: skip

    _FORWARD(v, (v.shape[-1], s.shape[-1], int(added)), launch)
    return total, out, factor


def _gradients(
    x: Optionals, weights: Optionals, factor: Tensor, grads: Tensors, more: Tensors | None
) -> Optionals:
    """Gradients of the normalised state and of both gains; ``more`` is added to the first."""
    v, s = (part.contiguous() for part in x if part is not None)
    weights = [None if w is None else w.contiguous() for w in weights]
    gv, gs = (g.contiguous() for g in grads)
    others = (None, None) if more is None else tuple(g.contiguous() for g in more)
    tokens, c, n = factor.numel(), v.shape[-1], s.shape[-1]
    gains = weights[0] is not None and weights[1] is not None
    of_v, of_s = v.new_empty(v.shape), s.new_empty(s.shape)
    partial: list[Tensor] = []

    def launch(options: Options) -> None:
        constants = _constants(v, s, gains, options)
        programs = min(_PROGRAMS, ceil_div(tokens, int(constants["BLOCK_T"])))
        sums = v.new_empty(programs if gains else 0, c + n)
        partial[:] = [sums]
        _gradient_kernel[(programs,)](
            v, s, gv, gs, *others, factor, *weights, of_v, of_s, sums, tokens,
            SUM=more is not None, **constants,
        )  # fmt: skip

    _BACKWARD(v, (c, n, int(more is not None)), launch)
    if not gains:
        return of_v, of_s, None, None
    return of_v, of_s, *partial[0].sum(0).split((c, n))


def slim_norm(
    settings: SlimNorm, v: Tensor, s: Tensor, weight_v: Tensor | None, weight_s: Tensor | None
) -> tuple[Tensors, Tensors]:
    """Forward pass; keeps the factor of each token."""
    _, out, factor = _norm(settings.epsilon, (v, s), (None, None), (weight_v, weight_s))
    return out, (factor,)


def slim_norm_gradients(
    settings: SlimNorm, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    return _gradients(inputs[:2], inputs[2:], kept[0], grads, None)


def slim_sum_and_norm(settings: OfSum, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
    """Forward pass; keeps the factor of each token."""
    total, out, factor = _norm(settings.stage.epsilon, inputs[:2], inputs[2:4], inputs[4:])
    if inputs[2] is None:  # the state itself would not be an output of its own
        total = total[0].view_as(total[0]), total[1].view_as(total[1])
    return (*total, *out), (factor,)


def slim_sum_and_norm_gradients(
    settings: OfSum, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass; both states have the gradient of their sum."""
    of_v, of_s, *of_weights = _gradients(outputs[:2], inputs[4:], kept[0], grads[2:], grads[:2])
    more = (None, None) if inputs[2] is None else (of_v, of_s)
    return of_v, of_s, *more, *of_weights


SLIM_NORM = Passes(slim_norm, slim_norm_gradients)
SLIM_SUM_AND_NORM = Passes(slim_sum_and_norm, slim_sum_and_norm_gradients)
