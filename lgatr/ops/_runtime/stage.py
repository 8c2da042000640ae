"""Operations with a forward and a backward pass written by hand.

Automatic differentiation keeps the result of every operation and fills whole tensors with zeros
for the gradient of a slice. A stage keeps what it needs and writes each gradient once. It always
has a formula in plain torch that computes the same: for programs that are traced, for other
devices, and for derivatives that the passes do not have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lgatr.ops._runtime.choice import Operation
from lgatr.ops._runtime.products import products, same_products

Tensors = tuple[Tensor, ...]
Optionals = Sequence[Tensor | None]

_transforms = getattr(torch._C, "_functorch", None)
_modes = torch._C._len_torch_dispatch_stack
_VMAP_MODE = torch._C._parse_dispatch_key("VmapMode")
_UNKNOWN = object()


def needs_plain_formula() -> bool:
    """Whether derivatives are being taken that hand-written passes do not have.

    Those are forward-mode derivatives (``jvp``, ``jacfwd``) and everything inside ``torch.func``
    transformations such as ``vmap``, or inside a mode that takes each of torch's operations (fake
    tensors, counters of operations). Torch has no public question for any of them.
    """
    return not torch.compiler.is_compiling() and _needs_plain_formula()


def _needs_plain_formula() -> bool:
    if _modes():
        return True
    # Inside a transformation custom functions fail even on tensors that it does not touch.
    if _transforms is not None and _transforms.peek_interpreter_stack() is not None:
        return True
    return getattr(forward_ad, "_current_level", -1) >= 0


def with_dense_rows(inputs: Optionals) -> list[Tensor]:
    """The tensors among ``inputs``, copied where the numbers of a row do not lie side by side."""
    return [x if x.stride(-1) == 1 else x.contiguous() for x in inputs if x is not None]


def gradients_are_batched() -> bool:
    """Whether a backward pass takes several gradients at once (``is_grads_batched``).

    The vectorised :func:`torch.autograd.functional.jacobian` does; such gradients have no memory
    to read.
    """
    return _VMAP_MODE is not None and torch._C._dispatch_tls_local_include_set().has(_VMAP_MODE)


class Stage(ABC):
    """One operation; attributes hold its settings, and tensors are passed.

    A subclass names its :attr:`operation`, whose passes are chosen by device and format, or has
    methods ``forward`` and ``backward`` of its own (as :class:`~lgatr.ops._runtime.choice.Passes`
    describes them) with :meth:`runs_on`.
    """

    operation: ClassVar[Operation | None] = None
    needs_outputs: ClassVar[bool] = False
    """Whether the backward pass looks at the outputs; else they are not kept for it."""
    num_kept: int = 0
    """Tensors that the forward pass keeps, where the stage is the first of a :class:`Fused`."""

    @abstractmethod
    def plain(self, *inputs: Tensor | None) -> Tensors:
        """The outputs by the formula."""

    def runs_on(self, x: Tensor) -> bool:
        """Whether ``forward`` and ``backward`` of the class are for tensors like ``x``."""
        return x.is_cpu and x.dtype in (torch.float32, torch.float64)

    def passes(self, x: Tensor) -> Any:
        """What has the forward and backward pass for tensors like ``x``; None for the formula."""
        if self.operation is None:
            return type(self) if self.runs_on(x) else None
        if x.is_cpu:  # what Operation.choose does, without a call
            found = self.operation.chosen.get(x.dtype, _UNKNOWN)
            if found is not _UNKNOWN:
                return found
        return self.operation.choose(x)

    def run_forward(self, passes: Any, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """The outputs, and what is kept for the gradient."""
        found: tuple[Tensors, Tensors] = passes.forward(self, *inputs)
        return found

    def run_backward(
        self, passes: Any, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """The gradient of each input."""
        found: Optionals = passes.backward(self, inputs, outputs, kept, grads)
        return found

    def __call__(self, *inputs: Tensor | None) -> Tensors:
        """The outputs, by the passes where there are some for these inputs, else by the formula."""
        first = inputs[0]
        assert first is not None
        if torch.compiler.is_compiling():
            return self.plain(*inputs)
        passes = self.passes(first)
        if passes is None:
            return self.without_passes(*inputs)
        if (
            _needs_plain_formula()
            or (not first.is_cuda and torch.is_autocast_enabled(first.device.type))
            or first.numel() == 0
        ):
            return self.plain(*inputs)
        if torch.is_grad_enabled():
            for x in inputs:
                if x is not None and x.requires_grad:
                    outputs: Tensors = _Run.apply(self, passes, *inputs)
                    return outputs
        return self.run_forward(passes, *inputs)[0]

    def without_passes(self, *inputs: Tensor | None) -> Tensors:
        """The outputs where there are no passes for the device and format of the inputs."""
        return self.plain(*inputs)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stage: Stage, passes: Any, *inputs: Tensor | None) -> Tensors:
        outputs, kept = stage.run_forward(passes, *inputs)
        seen = outputs if stage.needs_outputs else ()
        ctx.stage, ctx.passes, ctx.counts = stage, passes, (len(inputs), len(seen))
        first = inputs[0]
        ctx.products = products() if first is not None and first.is_cuda else None
        ctx.save_for_backward(*inputs, *seen, *kept)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        n, m = ctx.counts
        saved = ctx.saved_tensors
        inputs, outputs, kept = saved[:n], saved[n : n + m], saved[n + m :]
        if torch.is_grad_enabled() or gradients_are_batched():
            needed = ctx.needs_input_grad[2:]
            return None, None, *_by_formula(ctx.stage, inputs, grads, needed)
        run = ctx.stage.run_backward
        if ctx.products is None:
            return None, None, *run(ctx.passes, inputs, outputs, kept, grads)
        with same_products(ctx.products):
            return None, None, *run(ctx.passes, inputs, outputs, kept, grads)


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


class Fused(Stage):
    """Two stages, one after the other, with one gradient: tensors between them are not kept.

    Inputs are those of the first stage, then those of the second that the first does not give.
    Where one of them has no passes, each runs for itself. A subclass may name an
    :attr:`operation` with a forward pass for both at once, and a backward pass or None, used where
    the targets have it.

    Parameters
    ----------
    first, second
        The stages.
    count
        Number of inputs of the first.
    between
        Number of tensors between them: the outputs of the first.
    intermediate
        Where the gradient of the second finds its inputs from the first: ``"recomputed"``,
        ``"kept"`` after all, or ``"unused"`` if it does not look at them. What is recomputed on
        CPUs is kept on GPUs, which have more memory than time.
    """

    def __init__(
        self, first: Stage, second: Stage, count: int, intermediate: str, between: int = 3
    ) -> None:
        self.first, self.second = first, second
        self.count, self.between, self.intermediate = count, between, intermediate
        self.needs_outputs = second.needs_outputs  # type: ignore[misc]

    def passes(self, x: Tensor) -> Any:
        """Those of both stages, and of both at once or None; or None for the formula."""
        first, second = self.first.passes(x), self.second.passes(x)
        if first is None or second is None:
            return None
        return first, second, None if self.operation is None else super().passes(x)

    def without_passes(self, *inputs: Tensor | None) -> Tensors:
        return self.second(*self.first(*inputs[: self.count]), *inputs[self.count :])

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return self.second.plain(*self.first.plain(*inputs[: self.count]), *inputs[self.count :])

    def run_forward(self, passes: Any, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        first, second, both = passes
        if both is not None:
            return super().run_forward(both, *inputs)
        found, kept_first = first.forward(self.first, *inputs[: self.count])
        outputs, kept = second.forward(self.second, *found, *inputs[self.count :])
        intermediate = self._intermediate(inputs)
        if intermediate == "recomputed":
            return outputs, kept
        return outputs, (*kept_first, *(found if intermediate == "kept" else ()), *kept)

    def _intermediate(self, inputs: Optionals) -> str:
        x = inputs[0]
        # Where both stages run at once there is nothing between them to keep.
        if self.intermediate == "recomputed" and self.operation is None and x is not None:
            return "kept" if x.is_cuda else "recomputed"
        return self.intermediate

    def run_backward(
        self, passes: Any, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        first, second, both = passes
        if both is not None and both.backward is not None:
            return super().run_backward(both, inputs, outputs, kept, grads)
        own, other, width = inputs[: self.count], inputs[self.count :], self.between
        between: Optionals
        intermediate = self._intermediate(inputs)
        if intermediate == "recomputed":
            between, kept_first = first.forward(self.first, *own)
        else:
            kept_first, kept = kept[: self.first.num_kept], kept[self.first.num_kept :]
            between = [None] * width
            if intermediate == "kept":
                between, kept = kept[:width], kept[width:]
        found = second.backward(self.second, [*between, *other], outputs, kept, grads)
        seen = tuple(x for x in between if x is not None)
        of_own = first.backward(self.first, own, seen, kept_first, tuple(found[:width]))
        return *of_own, *found[width:]


class OfSum(Stage):
    """A stage on the sum of two states: what is between the parts of a block.

    Inputs are the tensors of a state, those of another or None for none, and the further inputs of
    the stage; outputs the sum, and what the stage makes of it. Where there are passes for it, that
    is one pass each way, and the gradient of the sum is added to that through the stage.

    A subclass names its :attr:`operation`.

    Parameters
    ----------
    stage
        The stage.
    """

    needs_outputs = True
    parts: ClassVar[int]
    """Number of tensors of a state."""

    def __init__(self, stage: Stage) -> None:
        self.stage: Any = stage  # its passes look at the settings of its class

    def plain(self, *inputs: Tensor | None) -> Tensors:
        total = self._total(inputs)
        return *total, *self.stage.plain(*total, *inputs[2 * self.parts :])

    def without_passes(self, *inputs: Tensor | None) -> Tensors:
        total = self._total(inputs)
        return *total, *self.stage(*total, *inputs[2 * self.parts :])

    def _total(self, inputs: Optionals) -> Tensors:
        x, more = inputs[: self.parts], inputs[self.parts : 2 * self.parts]
        if more[0] is None:
            return tuple(x)  # type: ignore[arg-type]
        return tuple(a + b for a, b in zip(x, more, strict=True))  # type: ignore[operator]
