"""A stage: several operations with one forward and one backward pass, written by hand.

Automatic differentiation keeps the result of every operation and fills whole tensors with zeros
for the gradient of a slice. A stage keeps what it needs and writes each gradient once. It always
has a plain formula too, which computes the same with ordinary operations: for programs that are
traced, for other devices, and for derivatives that a stage does not have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lgatr.ops._runtime.derivatives import gradients_are_batched, needs_plain_formula

Tensors = tuple[Tensor, ...]
Optionals = Sequence[Tensor | None]


class Stage(ABC):
    """One stage; attributes hold its settings, and tensors are passed."""

    needs_outputs: ClassVar[bool] = False
    """Whether :meth:`backward` looks at the outputs; else they are not kept for it."""

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
        """The gradient of each input; ``outputs`` is empty unless :attr:`needs_outputs`."""

    def runs_on(self, x: Tensor) -> bool:
        """Whether the stage is made for the device and format of ``x``."""
        return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)

    def __call__(self, *inputs: Tensor | None) -> Tensors:
        """The outputs, by whichever way is right here."""
        first = next(x for x in inputs if x is not None)
        if (
            torch.compiler.is_compiling()
            or not self.runs_on(first)
            or torch.is_autocast_enabled(first.device.type)
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
        seen = outputs if stage.needs_outputs else ()
        ctx.stage, ctx.counts = stage, (len(inputs), len(seen))
        ctx.save_for_backward(*inputs, *seen, *kept)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        n, m = ctx.counts
        saved = ctx.saved_tensors
        inputs, outputs, kept = saved[:n], saved[n : n + m], saved[n + m :]
        if torch.is_grad_enabled() or gradients_are_batched():
            return None, *_by_formula(ctx.stage, inputs, grads, ctx.needs_input_grad[1:])
        return None, *ctx.stage.backward(inputs, outputs, kept, grads)


def _by_formula(
    stage: Stage, inputs: Optionals, grads: Tensors, needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients by automatic differentiation: differentiable again, or of batched ``grads``."""
    second = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views end the path of this gradient: one input may be computed from another, and hooks
        # that the user has put on them belong to the outer pass.
        own = [None if x is None else x.view_as(x) for x in inputs]
        wanted = [x for x, need in zip(own, needed, strict=True) if need and x is not None]
        outputs = stage.plain(*own)
    found = iter(
        torch.autograd.grad(outputs, wanted, grads, create_graph=second, allow_unused=True)
    )
    return [
        next(found) if need and x is not None else None
        for x, need in zip(inputs, needed, strict=True)
    ]


class Then(Stage):
    """Two stages, one after the other, without keeping what is between them.

    Inputs are those of the first stage, then those of the second that the first does not give.

    Parameters
    ----------
    first, second
        The stages.
    count
        Inputs of the first.
    middle
        What the gradient of the second needs of its inputs from the first: ``"nothing"``, or they
        are computed ``"again"``, or kept after all (``"kept"``).
    """

    def __init__(self, first: Stage, second: Stage, count: int, middle: str) -> None:
        self.first, self.second, self.count, self.middle = first, second, count, middle
        self.needs_outputs = second.needs_outputs  # type: ignore[misc]

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`Stage`."""
        return self.first.runs_on(x) and self.second.runs_on(x)

    def __call__(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`Stage`."""
        first = next(x for x in inputs if x is not None)
        if torch.compiler.is_compiling() or self.runs_on(first):
            return super().__call__(*inputs)
        return self.second(*self.first(*inputs[: self.count]), *inputs[self.count :])

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`Stage`."""
        return self.second.plain(*self.first.plain(*inputs[: self.count]), *inputs[self.count :])

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`Stage`."""
        between, _ = self.first.forward(*inputs[: self.count])
        outputs, kept = self.second.forward(*between, *inputs[self.count :])
        return outputs, (*(between if self.middle == "kept" else ()), *kept)

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`Stage`."""
        own, other = inputs[: self.count], inputs[self.count :]
        between: Optionals
        kept_first: Tensors = ()
        if self.middle == "kept":
            width = self.second_inputs
            between, kept = kept[:width], kept[width:]
        elif self.middle == "again":
            between, kept_first = self.first.forward(*own)
        else:
            between = [None] * self.second_inputs
        found = self.second.backward([*between, *other], outputs, kept, grads)
        width = len(between)
        seen = tuple(x for x in between if x is not None)
        of_between = tuple(x for x in found[:width] if x is not None)
        return *self.first.backward(own, seen, kept_first, of_between), *found[width:]

    second_inputs: ClassVar[int] = 3
    """Tensors between the stages: the three sectors."""
