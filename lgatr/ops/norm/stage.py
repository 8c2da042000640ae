"""The equivariant layer norm of hidden states."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import Fused, Optionals, Stage, Tensors
from lgatr.ops.linear.stage import Linear
from lgatr.ops.norm.formula import layer_norm


@dataclass(frozen=True, eq=False)
class Norm(Stage):
    """Inputs z, v, b, the gain of each channel and grade or None, of each scalar or None.

    Parameters
    ----------
    epsilon
        Floor of the mean squared norm.
    gain
        Factor on the multivectors.
    """

    operation = Operation(__package__, "norm", CPP, TRITON)
    epsilon: float
    gain: float

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return layer_norm(self.epsilon, self.gain, *inputs)  # type: ignore[arg-type]


class NormByOutputs(Norm):
    """The norm without gains, whose gradient needs its outputs and not its inputs."""

    operation = Operation(__package__, "norm_by_outputs", CPP, otherwise="norm")
    needs_outputs = True

    def without_passes(self, *inputs: Tensor | None) -> Tensors:
        return Norm(self.epsilon, self.gain)(*inputs)


@dataclass(frozen=True, eq=False)
class SumAndNorm(Stage):
    """The sum of two states, and its norm: what is between the parts of a block.

    Inputs are z, v and b of a state, of another or None for none, and the gains as for
    :class:`Norm`; outputs z, v and b of the sum, and of the normalised sum. On CUDA that is one
    pass each way, where the gradient of the sum is added to that through the norm.

    Parameters
    ----------
    norm
        The norm.
    """

    operation = Operation(__package__, "sum_and_norm", TRITON, otherwise="sum, norm")
    needs_outputs = True
    norm: Norm

    @property
    def epsilon(self) -> float:
        """Floor of the mean squared norm."""
        return self.norm.epsilon

    @property
    def gain(self) -> float:
        """Factor on the multivectors."""
        return self.norm.gain

    def plain(self, *inputs: Tensor | None) -> Tensors:
        total = _total(inputs)
        return *total, *self.norm.plain(*total, *inputs[6:])

    def without_passes(self, *inputs: Tensor | None) -> Tensors:
        total = _total(inputs)
        return *total, *self.norm(*total, *inputs[6:])


def _total(inputs: Optionals) -> Tensors:
    x, more = inputs[:3], inputs[3:6]
    if more[0] is None:
        return tuple(x)  # type: ignore[arg-type]
    return tuple(a + b for a, b in zip(x, more, strict=True))  # type: ignore[operator]


def linear_norm(linear: Linear, norm: Norm) -> Fused:
    """A linear map and the norm of its outputs, without gains, as one stage."""
    return Fused(linear, NormByOutputs(norm.epsilon, norm.gain), linear.count, "unused")
