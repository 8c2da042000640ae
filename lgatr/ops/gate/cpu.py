"""Scalar gates in C++ (``gate.cpp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lgatr.layout import Sectors, flat
from lgatr.ops._runtime.arguments import State, given, out, sizes
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.cpu import kernel
from lgatr.ops._runtime.function_values import FunctionValues
from lgatr.ops._runtime.matmul import as_rows
from lgatr.ops._runtime.stage import Optionals, Tensors

if TYPE_CHECKING:
    from lgatr.ops.gate.stage import Gate

_MULTIVECTORS = State("2 * C", "2 * C", wider=True)
_OUT = State("2 * C", "2 * C", written=True, wider=True)
_GATE = kernel("gate", {
    "x": _MULTIVECTORS, "gates": given("T", "C"), "out": _OUT, **sizes("T C"),
})  # fmt: skip
_GRADIENT = kernel("gate_gradient", {
    "x": _MULTIVECTORS, "gates": given("T", "C"), "grad": _MULTIVECTORS, "out": _OUT,
    "of_gate": out("T", "C"), **sizes("T C"),
})  # fmt: skip


def gate(settings: Gate, z: Tensor, v: Tensor, b: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    w = v.shape[-1]
    found = z.new_empty(z.shape), v.new_empty(v.shape), b.new_empty(b.shape)
    gates = settings.function(z[..., : w // 2].contiguous())
    x, to = (z, v, b), found
    if z.dim() != 2 or not z.stride(1) == v.stride(2) == b.stride(2) == 1:
        x, to = flat(Sectors(*x)), flat(Sectors(*to))
        gates = as_rows(gates)
    _GATE(z, x, gates.contiguous(), to, *gates.shape)
    if z.shape[-1] > w:
        found[0][..., w:] = settings.scalar_function(z[..., w:])
    return found, ()


def gate_gradients(
    settings: Gate, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    z, v, b = inputs
    assert z is not None and v is not None and b is not None
    w = v.shape[-1]
    gates = FunctionValues(settings.function, z[..., : w // 2])
    found = z.new_empty(z.shape), v.new_empty(v.shape), b.new_empty(b.shape)
    x, g, to = (flat(Sectors(*state)) for state in ((z, v, b), grads, found))
    values = as_rows(gates.values).contiguous()
    of_gate = torch.empty_like(values)
    _GRADIENT(z, x, values, g, to, of_gate, *values.shape)
    dz, gz = found[0], grads[0]
    dz[..., : w // 2] += gates.pullback(of_gate.view(*z.shape[:-1], w // 2))
    if z.shape[-1] > w:
        dz[..., w:] = FunctionValues(settings.scalar_function, z[..., w:]).pullback(gz[..., w:])
    return found


GATE = Passes(gate, gate_gradients)
