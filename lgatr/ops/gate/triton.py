"""Gates on CUDA: each multivector times its gate, in one launch forward and one backward.

The first programs of a launch take multivectors, the others auxiliary scalars; a lane is one
(token, channel). Kernels evaluate the nonlinearities that they know; values of others are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from lgatr.layout import Sectors, flat, unflat
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.function_values import Function, FunctionValues
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, ceil_div, strides
from lgatr.ops._runtime.triton_functions import (
    GIVEN,
    derivative,
    number_of,
    pullback_or_given,
    value_or_given,
)
from lgatr.ops._runtime.triton_launch import Kernel
from lgatr.ops._runtime.tuning import Options, Tuned
from lgatr.ops.linear import triton as linear
from lgatr.ops.linear.triton_products import Gates, gated_product

if TYPE_CHECKING:
    from lgatr.ops.gate.stage import Gate, GatedLinear

# Blocks of 128 to 1024 lanes differ by less than the noise on an H200.
_CANDIDATES = ({"BLOCK": 256, "num_warps": 4},)
_FORWARD = Tuned("gate", _CANDIDATES)
_BACKWARD = Tuned("gate gradient", _CANDIDATES)


@triton.jit
def _row(x, at, gate, out, to, c, mask):
    """Both halves of a row."""
    p, i = tl.load(x + at, mask=mask), tl.load(x + at + c, mask=mask)
    tl.store(out + to, p * gate, mask=mask)
    tl.store(out + to + c, i * gate, mask=mask)


@triton.jit
def _row_gradient(x, at, g, at_g, gate, out, to, c, mask):
    """The same for gradients; returns this row's part of the gradient of the gate."""
    p, i = tl.load(x + at, mask=mask, other=0.0), tl.load(x + at + c, mask=mask, other=0.0)
    gp, gi = tl.load(g + at_g, mask=mask, other=0.0), tl.load(g + at_g + c, mask=mask, other=0.0)
    tl.store(out + to, gp * gate, mask=mask)
    tl.store(out + to + c, gi * gate, mask=mask)
    return gp * p + gi * i


@triton.jit
def _lanes(program, tokens, count, BLOCK: tl.constexpr):
    """Lanes, their token and channel, and which of them there are."""
    lane = program.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    t = lane // count
    return lane, t, lane % count, t < tokens


@triton.jit
def _scalars(z, values, oz, z_t, oz_t, lanes, first, NUMBER: tl.constexpr):
    lane, t, j, mask = lanes
    x = tl.load(z + t * z_t + first + j, mask=mask, other=0.0)
    found = value_or_given(x, values, lane, mask, NUMBER)
    tl.store(oz + t * oz_t + first + j, found, mask=mask)


@triton.jit
def _scalar_gradient(z, gz, given, oz, z_t, gz_t, oz_t, lanes, first, NUMBER: tl.constexpr):
    lane, t, j, mask = lanes
    x = tl.load(z + t * z_t + first + j, mask=mask, other=0.0)
    g = tl.load(gz + t * gz_t + first + j, mask=mask, other=0.0)
    found = pullback_or_given(x, g, given, lane, mask, NUMBER)
    tl.store(oz + t * oz_t + first + j, found, mask=mask)


@triton.jit
def _multivectors(
    z, v, b, gates, oz, ov, ob,
    z_t, v_i, v_t, b_i, b_t, oz_t, ov_i, ov_t, ob_i, ob_t, lanes, channels, NUMBER: tl.constexpr,
):  # fmt: skip
    lane, t, c, mask = lanes
    p = tl.load(z + t * z_t + c, mask=mask, other=0.0)
    i = tl.load(z + t * z_t + c + channels, mask=mask, other=0.0)
    gate = value_or_given(p, gates, lane, mask, NUMBER)
    tl.store(oz + t * oz_t + c, p * gate, mask=mask)
    tl.store(oz + t * oz_t + c + channels, i * gate, mask=mask)
    for k in tl.static_range(4):
        _row(v, k * v_i + t * v_t + c, gate, ov, k * ov_i + t * ov_t + c, channels, mask)
    for k in tl.static_range(3):
        _row(b, k * b_i + t * b_t + c, gate, ob, k * ob_i + t * ob_t + c, channels, mask)


@triton.jit
def _multivector_gradient(
    z, v, b, gates, gz, gv, gb, oz, ov, ob, of_gates,
    z_t, v_i, v_t, b_i, b_t, gz_t, gv_i, gv_t, gb_i, gb_t, oz_t, ov_i, ov_t, ob_i, ob_t,
    lanes, channels, NUMBER: tl.constexpr,
):  # fmt: skip
    lane, t, c, mask = lanes
    p = tl.load(z + t * z_t + c, mask=mask, other=0.0)
    i = tl.load(z + t * z_t + c + channels, mask=mask, other=0.0)
    gp = tl.load(gz + t * gz_t + c, mask=mask, other=0.0)
    gi = tl.load(gz + t * gz_t + c + channels, mask=mask, other=0.0)
    gate = value_or_given(p, gates, lane, mask, NUMBER)
    total = gp * p + gi * i
    for k in tl.static_range(4):
        at, at_g, to = k * v_i + t * v_t + c, k * gv_i + t * gv_t + c, k * ov_i + t * ov_t + c
        total += _row_gradient(v, at, gv, at_g, gate, ov, to, channels, mask)
    for k in tl.static_range(3):
        at, at_g, to = k * b_i + t * b_t + c, k * gb_i + t * gb_t + c, k * ob_i + t * ob_t + c
        total += _row_gradient(b, at, gb, at_g, gate, ob, to, channels, mask)
    of_p = gp * gate
    if NUMBER == GIVEN:
        tl.store(of_gates + lane, total, mask=mask)
    else:
        of_p += total * derivative(p, NUMBER)
    tl.store(oz + t * oz_t + c, of_p, mask=mask)
    tl.store(oz + t * oz_t + c + channels, gi * gate, mask=mask)


@Kernel
@triton.jit(do_not_specialize=["tokens", "programs"])
def _gate_kernel(
    z, v, b, gates, values, oz, ov, ob,
    z_t, v_i, v_t, b_i, b_t, oz_t, ov_i, ov_t, ob_i, ob_t, tokens, channels, scalars, programs,
    NUMBER: tl.constexpr, NUMBER_S: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    if program < programs:
        _multivectors(
            z, v, b, gates, oz, ov, ob, z_t, v_i, v_t, b_i, b_t, oz_t, ov_i, ov_t, ob_i, ob_t,
            _lanes(program, tokens, channels, BLOCK), channels, NUMBER,
        )  # fmt: skip
    else:
        lanes = _lanes(program - programs, tokens, scalars, BLOCK)
        _scalars(z, values, oz, z_t, oz_t, lanes, 2 * channels, NUMBER_S)


@Kernel
@triton.jit(do_not_specialize=["tokens", "programs"])
def _gradient_kernel(
    z, v, b, gates, given, gz, gv, gb, oz, ov, ob, of_gates,
    z_t, v_i, v_t, b_i, b_t, gz_t, gv_i, gv_t, gb_i, gb_t, oz_t, ov_i, ov_t, ob_i, ob_t,
    tokens, channels, scalars, programs,
    NUMBER: tl.constexpr, NUMBER_S: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    if program < programs:
        _multivector_gradient(
            z, v, b, gates, gz, gv, gb, oz, ov, ob, of_gates,
            z_t, v_i, v_t, b_i, b_t, gz_t, gv_i, gv_t, gb_i, gb_t, oz_t, ov_i, ov_t, ob_i, ob_t,
            _lanes(program, tokens, channels, BLOCK), channels, NUMBER,
        )  # fmt: skip
    else:
        lanes = _lanes(program - programs, tokens, scalars, BLOCK)
        _scalar_gradient(
            z, gz, given, oz, z_t, gz_t, oz_t, lanes, 2 * channels, NUMBER_S
        )  # fmt: skip


def _launch(kernel, tuned: Tuned, x: Sectors, numbers: tuple[int, int], *given) -> None:
    """Launch a kernel: first the programs of multivectors, then those of auxiliary scalars."""
    tokens, c, s = len(x.z), x.mv_channels, x.s_channels

    def launch(options: Options) -> None:
        programs, others = (ceil_div(tokens * n, options["BLOCK"]) for n in (c, s))
        kernel[(programs + others,)](
            *x, *given, tokens, c, s, programs,
            NUMBER=numbers[0], NUMBER_S=numbers[1], **options, **FUSED,
        )  # fmt: skip

    if tokens and c + s:
        tuned(x.z, (c, s, *numbers), launch)


def _parts(x: Sectors) -> tuple[Tensor, Tensor]:
    """What gates are a function of, and auxiliary scalars."""
    return x.z[:, : x.mv_channels], x.z[:, 2 * x.mv_channels :]


def write_gated(x: Sectors, out: Sectors, function: Function, scalar_function: Function) -> None:
    """Multiply multivectors by a function of their scalar; a function of auxiliary scalars.

    Parameters
    ----------
    x, out
        States ``z (T, .)``, ``v (4, T, .)``, ``b (3, T, .)`` with channels side by side.
    function, scalar_function
        As in :class:`~lgatr.ops.gate.stage.Gate`.
    """
    numbers = number_of(function), number_of(scalar_function)
    first, scalars = _parts(x)
    gates = values = None
    if numbers[0] == GIVEN.value:
        gates = function(first.contiguous()).contiguous()
    if numbers[1] == GIVEN.value:
        values = scalar_function(scalars).contiguous() if scalars.shape[1] else scalars
    _launch(_gate_kernel, _FORWARD, x, numbers, gates, values, *out, *strides(x, out))


def write_gradient(
    x: Sectors, grad: Sectors, out: Sectors, function: Function, scalar_function: Function
) -> None:
    """Write the gradient of the state into ``out``; arguments as in :func:`write_gated`."""
    numbers = number_of(function), number_of(scalar_function)
    first, scalars = _parts(x)
    found = gates = of_gates = given = None
    if numbers[0] == GIVEN.value:
        found = FunctionValues(function, first)
        gates = found.values.contiguous()
        of_gates = torch.empty_like(gates)
    if numbers[1] == GIVEN.value:
        given = scalars
        if scalars.shape[1]:
            of_scalars = FunctionValues(scalar_function, scalars)
            given = of_scalars.pullback(_parts(grad)[1]).contiguous()
    _launch(
        _gradient_kernel, _BACKWARD, x, numbers, gates, given, *grad, *out, of_gates,
        *strides(x, grad, out),
    )  # fmt: skip
    if found is not None and of_gates is not None:
        _parts(out)[0].add_(found.pullback(of_gates))


def gate(settings: Gate, z: Tensor, v: Tensor, b: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.gate.stage.Gate`."""
    found = z.new_empty(z.shape), v.new_empty(v.shape), b.new_empty(b.shape)
    x, out = flat(Sectors(z, v, b)), flat(Sectors(*found))
    write_gated(x, out, settings.function, settings.scalar_function)
    return found, ()


def gate_gradients(
    settings: Gate, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    z, v, b = inputs
    assert z is not None and v is not None and b is not None
    found = z.new_empty(z.shape), v.new_empty(v.shape), b.new_empty(b.shape)
    x, g, to = (flat(Sectors(*state)) for state in ((z, v, b), grads, found))
    write_gradient(x, g, to, settings.function, settings.scalar_function)
    return found


def gated_linear(settings: GatedLinear, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.gate.stage.GatedLinear`, without the gated state."""
    z, v, b, *given = inputs
    assert z is not None and v is not None and b is not None
    matrices, bias, kept = linear.placed_matrices(settings.linear, given)
    state, functions = Sectors(z, v, b), settings.gate
    x = flat(state)

    def gates() -> Gates:
        both = functions.function, functions.scalar_function
        numbers = number_of(both[0]), number_of(both[1])
        given = (
            None if number else function(part).contiguous()
            for function, part, number in zip(both, _parts(x), numbers, strict=True)
        )
        return Gates(numbers, *given)

    def gated() -> Sectors:
        return Sectors(*gate(functions, *x)[0])

    out = gated_product(x, matrices, bias, gates, gated)
    return tuple(unflat(out, state)), kept


GATE = Passes(gate, gate_gradients)
GATED_LINEAR = Passes(gated_linear, None)
