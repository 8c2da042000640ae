"""Matrix products on CPUs, by oneDNN.

Torch gives float32 matrices to MKL, which uses half the width of the vector units of processors
from another maker; oneDNN, which every x86 build of torch contains for its convolutions, uses all
of it. Two cores of an AMD EPYC: 0.20 TFLOP/s against 0.40 to 0.45, at the shapes of the networks.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.ops._runtime.stage import gradients_are_batched, needs_plain_formula

_SMALLEST = 1 << 21
"""Multiply-adds below which MKL is faster: its call costs 5 microseconds, oneDNN's 20."""


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


@cache
def _available() -> bool:
    """Whether this torch has the operator, and it multiplies."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight, bias = torch.ones(2, 3), torch.full((4, 3), 2.0), torch.ones(4)
    try:
        return torch.equal(_onednn(x, weight, bias), torch.full((2, 4), 7.0))
    except (RuntimeError, AttributeError, TypeError):
        return False


def _applies(x: Tensor, weight: Tensor) -> bool:
    """Whether the operator exists for these, and is worth its call."""
    return (
        x.numel() * len(weight) >= _SMALLEST
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and _available()
    )


def as_rows(x: Tensor) -> Tensor:
    """``(..., I)`` as ``(T, I)``."""
    return x.flatten(0, -2) if x.dim() > 1 else x.unsqueeze(0)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` without gradients."""
    return _onednn(x, weight, bias) if _applies(x, weight) else F.linear(x, weight, bias)


def products(
    states: tuple[Tensor, ...], weights: tuple[Tensor, ...], biases: tuple[Tensor | None, ...]
) -> tuple[Tensor, ...]:
    """:func:`product` of each state with its weight and bias."""
    return tuple([product(x, w, b) for x, w, b in zip(states, weights, biases, strict=True)])


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """``grad @ weight``, the gradient of ``product(x, weight)`` with respect to ``x (T, I)``."""
    return product(grad, weight.t())


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """``grad.T @ x``, the gradient of ``product(x, weight)`` with respect to ``weight (O, I)``.

    oneDNN would have to transpose both; that costs more than it gains.
    """
    return grad.t() @ x


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """:func:`torch.nn.functional.linear`, faster on many CPUs.

    Parameters
    ----------
    x
        ``(..., I)``.
    weight
        ``(O, I)``.
    bias
        ``(O,)``, or None.

    Returns
    -------
    ``(..., O)``.
    """
    if (
        torch.compiler.is_compiling()
        or not _applies(x, weight)
        or torch.is_autocast_enabled("cpu")
        or needs_plain_formula()
    ):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _onednn(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias)
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows, x_rows = as_rows(grad), as_rows(x)
        if torch.is_grad_enabled() or gradients_are_batched():
            gx = linear(grad, weight.t()) if needs_x else None
            gw = rows.t() @ x_rows if needs_weight else None
        else:
            gx = input_gradient(rows, weight).view(x.shape) if needs_x else None
            gw = weight_gradient(rows, x_rows) if needs_weight else None
        return gx, gw, rows.sum(0) if needs_bias else None
