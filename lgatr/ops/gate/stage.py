"""Scalar gates: every multivector times a function of its scalar.

Legend: T tokens, C multivector channels, w = 2 C, S scalar channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgatr.layout import Sectors, flat
from lgatr.ops._runtime import cpu as native
from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.function_values import Function, FunctionValues
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors
from lgatr.ops._runtime.triton import has_triton_kernels


@dataclass(frozen=True, eq=False)
class GateStage(Stage):
    """Inputs and outputs are z, v and b.

    Parameters
    ----------
    formula
        The plain formula.
    function
        Of the scalars of multivectors.
    scalar_function
        Of the auxiliary scalars.
    """

    formula: Callable[..., Tensors]
    function: Function
    scalar_function: Function

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return super().runs_on(x) or has_triton_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    def _gates(self, z: Tensor, c: int) -> Tensor:
        return self.function(z[..., :c].contiguous())

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        z, v, b = inputs
        assert z is not None and v is not None and b is not None
        w = v.shape[-1]
        kernels = _kernels(z)
        if kernels is not None:
            x = Sectors(z, v, b)
            found = native.empty_like(x)
            gates = self._gates(z, w // 2)
            kernels.gate(flat(x), _as_gates(gates), flat(found))
            out, v, b = found
        else:
            gate, out = _twice(self._gates(z, w // 2)), torch.empty_like(z)
            torch.mul(z[..., :w], gate, out=out[..., :w])
            v, b = v * gate, b * gate
        if z.shape[-1] > w:
            out[..., w:] = self.scalar_function(z[..., w:])
        return (out, v, b), ()

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        z, v, b = inputs
        assert z is not None and v is not None and b is not None
        gz, gv, gb = grads
        w = v.shape[-1]
        c = w // 2
        kernels = _kernels(z)
        gates = FunctionValues(self.function, z[..., :c])
        if kernels is not None:
            found = native.empty_like(Sectors(z, v, b))
            x, g, to = (flat(s) for s in (Sectors(z, v, b), Sectors(*grads), found))
            of_gate = kernels.gate_gradient(x, _as_gates(gates.values), g, to)
            of_gate = of_gate.view(*z.shape[:-1], c)
            dz, dv, db = found
        else:
            gate, dz = _twice(gates.values), torch.empty_like(z)
            products = gz[..., :w] * z[..., :w]
            for rows_g, rows in ((gv, v), (gb, b)):
                for g_row, row in zip(rows_g.unbind(0), rows.unbind(0), strict=True):
                    products.addcmul_(g_row, row)
            of_gate = products[..., :c] + products[..., c:]
            torch.mul(gz[..., :w], gate, out=dz[..., :w])
            dv, db = gv * gate, gb * gate
        dz[..., :c] += gates.pullback(of_gate)
        if z.shape[-1] > w:
            dz[..., w:] = FunctionValues(self.scalar_function, z[..., w:]).pullback(gz[..., w:])
        return dz, dv, db


def _kernels(x: Tensor) -> Any:
    """The module with the fused kernels for the device of ``x``, if it has any."""
    if has_triton_kernels(x):
        from lgatr.ops.gate import triton as triton_gate

        return triton_gate
    return native if has_native_kernels(x) else None


def _twice(gates: Tensor) -> Tensor:
    """The gates of both halves of each pair."""
    return torch.cat([gates, gates], dim=-1)


def _as_gates(x: Tensor) -> Tensor:
    """``(T, C)``, contiguous."""
    return x.reshape(-1, x.shape[-1]).contiguous()
