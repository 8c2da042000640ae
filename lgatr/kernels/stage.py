"""A stage: several operations with one forward and one backward pass, written by hand.

Automatic differentiation keeps the result of every operation and fills whole tensors with zeros
for the gradient of a slice. A stage keeps what it needs and writes each gradient once. It always
has a plain formula too, which computes the same with ordinary operations: for programs that are
traced, for other devices, and for derivatives that a stage does not have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lgatr.kernels.derivatives import needs_plain_formula

Tensors = tuple[Tensor, ...]
Optionals = Sequence[Tensor | None]


class Stage(ABC):
    """One stage; attributes hold its settings, and tensors are passed."""

    @abstractmethod
    def plain(self, *inputs: Tensor | None) -> Tensors:
        """The outputs, by ordinary operations."""

    @abstractmethod
    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """The outputs, and what :meth:`backward` needs besides inputs and outputs."""

    @abstractmethod
    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """The gradient of each input."""

    def __call__(self, *inputs: Tensor | None) -> Tensors:
        """The outputs, by whichever way is right here."""
        first = next(x for x in inputs if x is not None)
        if (
            torch.compiler.is_compiling()
            or first.device.type != "cpu"
            or first.dtype not in (torch.float32, torch.float64)
            or torch.is_autocast_enabled("cpu")
            or first.numel() == 0
            or needs_plain_formula()
        ):
            return self.plain(*inputs)
        if not (torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)):
            return self.forward(*inputs)[0]
        outputs: Tensors = _Run.apply(self, *inputs)
        return outputs


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stage: Stage, *inputs: Tensor | None) -> Tensors:
        outputs, kept = stage.forward(*inputs)
        ctx.stage, ctx.counts = stage, (len(inputs), len(outputs))
        ctx.save_for_backward(*inputs, *outputs, *kept)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        n, m = ctx.counts
        saved = ctx.saved_tensors
        inputs, outputs, kept = saved[:n], saved[n : n + m], saved[n + m :]
        if torch.is_grad_enabled():  # for second derivatives
            return None, *_differentiable(ctx.stage, inputs, grads, ctx.needs_input_grad[1:])
        return None, *ctx.stage.backward(inputs, outputs, kept, grads)


def _differentiable(
    stage: Stage, inputs: Optionals, grads: Tensors, needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients as functions that can be differentiated again."""
    wanted = [x for x, need in zip(inputs, needed, strict=True) if need and x is not None]
    found = iter(
        torch.autograd.grad(
            stage.plain(*inputs), wanted, grads, create_graph=True, allow_unused=True
        )
    )
    return [
        next(found) if need and x is not None else None
        for x, need in zip(inputs, needed, strict=True)
    ]
