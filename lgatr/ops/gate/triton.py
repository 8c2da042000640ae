"""Gates on CUDA: each multivector times its gate, in one pass forward and one backward.

A lane of a program is one (token, channel).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from lgatr.layout import Sectors, flat, unflat
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.function_values import FunctionValues
from lgatr.ops._runtime.matmul import as_rows
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops._runtime.triton import FUSED, strides
from lgatr.ops._runtime.tuning import Options, Tuned
from lgatr.ops.linear import triton as linear
from lgatr.ops.linear.triton_products import gated_product

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


@triton.jit(do_not_specialize=["tokens"])
def _gate_kernel(
    z, v, b, gates, oz, ov, ob,
    z_t, v_i, v_t, b_i, b_t, oz_t, ov_i, ov_t, ob_i, ob_t, tokens, channels, BLOCK: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    t, c = lane // channels, lane % channels
    mask = t < tokens
    gate = tl.load(gates + lane, mask=mask)
    _row(z, t * z_t + c, gate, oz, t * oz_t + c, channels, mask)
    for k in tl.static_range(4):
        _row(v, k * v_i + t * v_t + c, gate, ov, k * ov_i + t * ov_t + c, channels, mask)
    for k in tl.static_range(3):
        _row(b, k * b_i + t * b_t + c, gate, ob, k * ob_i + t * ob_t + c, channels, mask)


@triton.jit(do_not_specialize=["tokens"])
def _gradient_kernel(
    z, v, b, gates, gz, gv, gb, oz, ov, ob, of_gates,
    z_t, v_i, v_t, b_i, b_t, gz_t, gv_i, gv_t, gb_i, gb_t, oz_t, ov_i, ov_t, ob_i, ob_t,
    tokens, channels, BLOCK: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    t, c = lane // channels, lane % channels
    mask = t < tokens
    gate = tl.load(gates + lane, mask=mask)
    at, at_g, to = t * z_t + c, t * gz_t + c, t * oz_t + c
    total = _row_gradient(z, at, gz, at_g, gate, oz, to, channels, mask)
    for k in tl.static_range(4):
        at, at_g, to = k * v_i + t * v_t + c, k * gv_i + t * gv_t + c, k * ov_i + t * ov_t + c
        total += _row_gradient(v, at, gv, at_g, gate, ov, to, channels, mask)
    for k in tl.static_range(3):
        at, at_g, to = k * b_i + t * b_t + c, k * gb_i + t * gb_t + c, k * ob_i + t * ob_t + c
        total += _row_gradient(b, at, gb, at_g, gate, ob, to, channels, mask)
    tl.store(of_gates + lane, total, mask=mask)


def write_gated(x: Sectors, gates: Tensor, out: Sectors) -> None:
    """Multiply each multivector by its gate ``(T, C)``; auxiliary scalars are left out."""
    if not gates.numel():
        return

    def launch(options: Options) -> None:
        _gate_kernel[(triton.cdiv(gates.numel(), options["BLOCK"]),)](
            *x, gates, *out, *strides(x, out), *gates.shape, **options, **FUSED
        )

    _FORWARD(gates, (gates.shape[1],), launch)


def write_gradient(x: Sectors, gates: Tensor, grad: Sectors, out: Sectors) -> Tensor:
    """Write the gradient of the state at fixed gates into ``out``; return that of the gates."""
    of_gates = torch.empty_like(gates)

    def launch(options: Options) -> None:
        _gradient_kernel[(triton.cdiv(gates.numel(), options["BLOCK"]),)](
            *x, gates, *grad, *out, of_gates, *strides(x, grad, out), *gates.shape,
            **options, **FUSED,
        )  # fmt: skip

    if gates.numel():
        _BACKWARD(gates, (gates.shape[1],), launch)
    return of_gates


def gate(settings: Gate, z: Tensor, v: Tensor, b: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.gate.stage.Gate`."""
    w = v.shape[-1]
    found = z.new_empty(z.shape), v.new_empty(v.shape), b.new_empty(b.shape)
    gates = as_rows(settings.function(z[..., : w // 2].contiguous()))
    write_gated(flat(Sectors(z, v, b)), gates.contiguous(), flat(Sectors(*found)))
    if z.shape[-1] > w:
        found[0][..., w:] = settings.scalar_function(z[..., w:])
    return found, ()


def gate_gradients(
    settings: Gate, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass likewise."""
    z, v, b = inputs
    assert z is not None and v is not None and b is not None
    w = v.shape[-1]
    gates = FunctionValues(settings.function, z[..., : w // 2])
    found = z.new_empty(z.shape), v.new_empty(v.shape), b.new_empty(b.shape)
    x, g, to = (flat(Sectors(*state)) for state in ((z, v, b), grads, found))
    of_gate = write_gradient(x, as_rows(gates.values).contiguous(), g, to)
    dz, gz = found[0], grads[0]
    dz[..., : w // 2] += gates.pullback(of_gate.view(*z.shape[:-1], w // 2))
    if z.shape[-1] > w:
        dz[..., w:] = FunctionValues(settings.scalar_function, z[..., w:]).pullback(gz[..., w:])
    return found


def gated_linear(settings: GatedLinear, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
    """Forward pass of :class:`~lgatr.ops.gate.stage.GatedLinear`, without the gated state."""
    z, v, b, *given = inputs
    assert z is not None and v is not None and b is not None
    matrices, bias, kept = linear.matrices_of(settings.linear, given)
    state, functions = Sectors(z, v, b), settings.gate
    x = flat(state)
    w = x.v.shape[-1]
    out = gated_product(
        x,
        functions.function(x.z[:, : w // 2]).contiguous(),
        functions.scalar_function(x.z[:, w:]).contiguous(),
        matrices,
        bias,
        lambda: Sectors(*gate(functions, *x)[0]),
    )
    return tuple(unflat(out, state)), kept


GATE = Passes(gate, gate_gradients)
GATED_LINEAR = Passes(gated_linear, None)
