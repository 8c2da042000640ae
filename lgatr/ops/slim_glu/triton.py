"""The gated linear unit of four-vectors and scalars on CUDA: one launch forward, one backward.

The first programs of a launch take vectors, the others scalars; a tile is some tokens times some
channels. Kernels evaluate the nonlinearities that they know; of others, the values are computed by
torch between two kernels, and given.

Legend: T tokens, V and S vector and scalar outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.function_values import FunctionValues
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, block, ceil_div, rows_of
from lgatr.ops._runtime.triton_functions import (
    GIVEN,
    number_of,
    pullback_or_given,
    value_or_given,
)
from lgatr.ops._runtime.triton_launch import Kernel
from lgatr.ops._runtime.triton_vectors import load4, store4
from lgatr.ops._runtime.tuning import Options, Tuned

if TYPE_CHECKING:
    from lgatr.ops.slim_glu.stage import GatedUnits

# Vectors of a tile, and warps for it.
_CANDIDATES = (
    {"vectors": 256, "num_warps": 4},
    {"vectors": 512, "num_warps": 4},
    {"vectors": 256, "num_warps": 2},
    {"vectors": 1024, "num_warps": 8},
)
_FORWARD, _BACKWARD = Tuned("slim glu", _CANDIDATES), Tuned("slim glu gradient", _CANDIDATES)
_WIDEST = 128
"""Channels of a tile, at most: wider ones would be padded more."""
_SCALARS = tl.constexpr(4)
"""Tokens of a tile of scalars for each of a tile of vectors: as many numbers."""


@triton.jit
def _tile(program, tokens, COUNT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Tokens and channels of a tile, and which of them there are."""
    tiles: tl.constexpr = (COUNT + BLOCK - 1) // BLOCK if COUNT else 1
    t = (program // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = (program % tiles) * BLOCK + tl.arange(0, BLOCK)
    t, c = t[:, None], c[None, :]
    return (t, c), (t < tokens) & (c < COUNT)


@triton.jit
def _half_product(b, c):
    return 0.5 * (b[0] * c[0] - b[1] * c[1] - b[2] * c[2] - b[3] * c[3])


@triton.jit
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]


@triton.jit
def _vectors(v, gates, out, tile, mask, V: tl.constexpr, NUMBER: tl.constexpr):
    t, o = tile
    at = t * (12 * V) + o
    b, c = load4(v, 3 * V, at + V, mask), load4(v, 3 * V, at + 2 * V, mask)
    gate = value_or_given(_half_product(b, c), gates, t * V + o, mask, NUMBER)
    store4(out, V, t * (4 * V) + o, mask, load4(v, 3 * V, at, mask), gate, gate)


@triton.jit
def _scalars(s, values, out, tile, mask, S: tl.constexpr, NUMBER: tl.constexpr):
    t, o = tile
    at, place = t * (2 * S) + o, t * S + o
    x = tl.load(s + at, mask=mask, other=0.0)
    y = tl.load(s + at + S, mask=mask, other=0.0)
    tl.store(out + place, x * value_or_given(y, values, place, mask, NUMBER), mask=mask)


@Kernel
@triton.jit(do_not_specialize=["tokens", "vector_programs"])
def _glu_kernel(
    v, s, gates, values, out_v, out_s, tokens, vector_programs,
    V: tl.constexpr, S: tl.constexpr, NUMBER_V: tl.constexpr, NUMBER: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    if program < vector_programs:
        tile, mask = _tile(program, tokens, V, BLOCK_T, BLOCK_V)
        _vectors(v, gates, out_v, tile, mask, V, NUMBER_V)
    else:
        others = program - vector_programs
        tile_s, mask_s = _tile(others, tokens, S, BLOCK_T * _SCALARS, BLOCK_S)
        _scalars(s, values, out_s, tile_s, mask_s, S, NUMBER)


@triton.jit
def _vector_gradient(
    v, gv, gates, of_inner, out, tile, mask, V: tl.constexpr, NUMBER: tl.constexpr
):
    t, o = tile
    at, place = t * (12 * V) + o, t * V + o
    a, g = load4(v, 3 * V, at, mask), load4(gv, V, t * (4 * V) + o, mask)
    b, c = load4(v, 3 * V, at + V, mask), load4(v, 3 * V, at + 2 * V, mask)
    inner = _half_product(b, c)
    gate = value_or_given(inner, gates, place, mask, NUMBER)
    half = 0.5 * pullback_or_given(inner, _dot(a, g), of_inner, place, mask, NUMBER)
    store4(out, 3 * V, at, mask, g, gate, gate)
    store4(out, 3 * V, at + V, mask, c, half, -half)
    store4(out, 3 * V, at + 2 * V, mask, b, half, -half)


@triton.jit
def _scalar_gradient(
    s, gs, values, of_second, out, tile, mask, S: tl.constexpr, NUMBER: tl.constexpr
):
    t, o = tile
    at, place = t * (2 * S) + o, t * S + o
    x = tl.load(s + at, mask=mask, other=0.0)
    y = tl.load(s + at + S, mask=mask, other=0.0)
    g = tl.load(gs + place, mask=mask, other=0.0)
    tl.store(out + at, g * value_or_given(y, values, place, mask, NUMBER), mask=mask)
    tl.store(out + at + S, pullback_or_given(y, g * x, of_second, place, mask, NUMBER), mask=mask)


@Kernel
@triton.jit(do_not_specialize=["tokens", "vector_programs"])
def _gradient_kernel(
    v, s, gv, gs, gates, of_inner, values, of_second, of_v, of_s, tokens, vector_programs,
    V: tl.constexpr, S: tl.constexpr, NUMBER_V: tl.constexpr, NUMBER: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    if program < vector_programs:
        tile, mask = _tile(program, tokens, V, BLOCK_T, BLOCK_V)
        _vector_gradient(v, gv, gates, of_inner, of_v, tile, mask, V, NUMBER_V)
    else:
        others = program - vector_programs
        tile_s, mask_s = _tile(others, tokens, S, BLOCK_T * _SCALARS, BLOCK_S)
        _scalar_gradient(s, gs, values, of_second, of_s, tile_s, mask_s, S, NUMBER)


@Kernel
@triton.jit(do_not_specialize=["tokens"])
def _inner_kernel(
    v, gv, inner, of_gates, tokens, V: tl.constexpr, BACK: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """What functions that kernels do not know are taken of; and the gradient of their values."""
    tile, mask = _tile(tl.program_id(0), tokens, V, BLOCK_T, BLOCK_V)
    t, o = tile
    at, place = t * (12 * V) + o, t * V + o
    b, c = load4(v, 3 * V, at + V, mask), load4(v, 3 * V, at + 2 * V, mask)
    tl.store(inner + place, _half_product(b, c), mask=mask)
    if BACK:
        a, g = load4(v, 3 * V, at, mask), load4(gv, V, t * (4 * V) + o, mask)
        tl.store(of_gates + place, _dot(a, g), mask=mask)


def _inner(v: Tensor, gv: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Half the inner products ``(T, V)``, and with ``gv`` the gradient of the gates."""
    o, tokens = v.shape[-1] // 3, v.shape[:-2].numel()
    inner = v.new_empty(*v.shape[:-2], o)
    of_gates = torch.empty_like(inner)
    wide = block(o, _WIDEST)
    rows = rows_of(_CANDIDATES[0]["vectors"], wide)
    if o:
        _inner_kernel[(ceil_div(tokens, rows) * ceil_div(o, wide),)](
            v, gv, inner, of_gates, tokens, V=o, BACK=gv is not None,
            BLOCK_T=rows, BLOCK_V=wide, num_warps=4, **FUSED,
        )  # fmt: skip
    return inner, of_gates


def _launch(
    settings: GatedUnits, kernel, tuned: Tuned, v: Tensor, s: Tensor, *given: Tensor | None
) -> None:
    """Launch a kernel for vectors ``(T, 4, 3 V)`` and scalars ``(T, 2 S)``."""
    o, p, tokens = v.shape[-1] // 3, s.shape[-1] // 2, s.shape[:-1].numel()
    numbers = number_of(settings.function_v), number_of(settings.function)
    wide, wide_s = block(o, _WIDEST), block(p, _WIDEST)

    def launch(options: Options) -> None:
        rows = rows_of(options["vectors"], wide)
        programs = ceil_div(tokens, rows) * ceil_div(o, wide)
        others = ceil_div(tokens, rows * _SCALARS.value) * ceil_div(p, wide_s)
        kernel[(programs + others,)](
            v, s, *given, tokens, programs, V=o, S=p, NUMBER_V=numbers[0], NUMBER=numbers[1],
            BLOCK_T=rows, BLOCK_V=wide, BLOCK_S=wide_s, num_warps=options["num_warps"], **FUSED,
        )  # fmt: skip

    tuned(v, (o, p, *numbers), launch)


def slim_glu(settings: GatedUnits, v: Tensor, s: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    v, s = v.contiguous(), s.contiguous()
    out_v = v.new_empty(*v.shape[:-1], v.shape[-1] // 3)
    out_s = s.new_empty(*s.shape[:-1], s.shape[-1] // 2)
    gates = values = None
    if number_of(settings.function_v) == GIVEN.value:
        gates = settings.function_v(_inner(v)[0]).contiguous()
    if number_of(settings.function) == GIVEN.value:
        values = settings.function(s.chunk(2, dim=-1)[1].contiguous()).contiguous()
    _launch(settings, _glu_kernel, _FORWARD, v, s, gates, values, out_v, out_s)
    return (out_v, out_s), ()


def slim_glu_gradients(
    settings: GatedUnits, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    v, s = (x.contiguous() for x in inputs if x is not None)
    gv, gs = (g.contiguous() for g in grads)
    of_v, of_s = v.new_empty(v.shape), s.new_empty(s.shape)
    gates = of_inner = values = of_second = None
    if number_of(settings.function_v) == GIVEN.value:
        inner, of_gates = _inner(v, gv)
        found = FunctionValues(settings.function_v, inner)
        gates, of_inner = found.values.contiguous(), found.pullback(of_gates).contiguous()
    if number_of(settings.function) == GIVEN.value:
        first, second = s.chunk(2, dim=-1)
        found = FunctionValues(settings.function, second)
        values, of_second = found.values.contiguous(), found.pullback(gs * first).contiguous()
    given = gates, of_inner, values, of_second
    _launch(settings, _gradient_kernel, _BACKWARD, v, s, gv, gs, *given, of_v, of_s)
    return of_v, of_s


SLIM_GLU = Passes(slim_glu, slim_glu_gradients)
