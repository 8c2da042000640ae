"""The gated linear unit of four-vectors and scalars in C++ (``slim_glu.cpp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lgatr.ops._runtime.arguments import given, out, sizes
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.cpu import kernel
from lgatr.ops._runtime.function_values import FunctionValues
from lgatr.ops._runtime.stage import Optionals, Tensors

if TYPE_CHECKING:
    from lgatr.ops.slim_glu.stage import GatedUnits

_V = "T", "4", "3 * O"
_INNER = kernel("slim_inner", {"v": given(*_V), "out": out("T", "O"), **sizes("T O")})
_GATE = kernel("slim_gate", {
    "v": given(*_V), "gates": given("T", "O"), "out": out("T", "4", "O"), **sizes("T O"),
})  # fmt: skip
_GATE_GRADIENT = kernel("slim_gate_gradient", {
    "v": given(*_V), "grad": given("T", "4", "O"), "of_gates": out("T", "O"), **sizes("T O"),
})  # fmt: skip
_GRADIENTS = kernel("slim_glu_gradients", {
    "v": given(*_V), "gates": given("T", "O"), "grad": given("T", "4", "O"),
    "of_inner": given("T", "O"), "out": out(*_V), **sizes("T O"),
})  # fmt: skip


def _inner(v: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Half the inner products ``(T, O)``; T and O."""
    inner = v.new_empty(*v.shape[:-2], v.shape[-1] // 3)
    sizes = v.shape[:-2].numel(), inner.shape[-1]
    _INNER(v, v, inner, *sizes)
    return inner, sizes


def slim_glu(settings: GatedUnits, v: Tensor, s: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    v, s = v.contiguous(), s.contiguous()
    inner, sizes = _inner(v)
    found = v.new_empty(*v.shape[:-1], sizes[1])
    _GATE(v, v, settings.function_v(inner).contiguous(), found, *sizes)
    first, second = s.chunk(2, dim=-1)
    return (found, first * settings.function(second.contiguous())), ()


def slim_glu_gradients(
    settings: GatedUnits, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    v, s = (x.contiguous() for x in inputs if x is not None)
    gv, gs = (g.contiguous() for g in grads)
    inner, sizes = _inner(v)
    gates, of_gates = FunctionValues(settings.function_v, inner), torch.empty_like(inner)
    _GATE_GRADIENT(v, v, gv, of_gates, *sizes)
    of_inner, of_v = gates.pullback(of_gates), v.new_empty(v.shape)
    _GRADIENTS(v, v, gates.values.contiguous(), gv, of_inner.contiguous(), of_v, *sizes)
    first, second = s.chunk(2, dim=-1)
    values, of_s = FunctionValues(settings.function, second), s.new_empty(s.shape)
    half = first.shape[-1]
    torch.mul(gs, values.values, out=of_s[..., :half])
    of_s[..., half:] = values.pullback(gs * first)
    return of_v, of_s


SLIM_GLU = Passes(slim_glu, slim_glu_gradients)
