"""The equivariant layer norm of hidden states."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import Fused, OfSum, Stage, Tensors
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


class SumAndNorm(OfSum):
    """The sum of two states (z, v and b of each), and its norm."""

    operation = Operation(__package__, "sum_and_norm", TRITON, otherwise="sum, norm")
    parts = 3


def linear_norm(linear: Linear, norm: Norm) -> Fused:
    """A linear map and the norm of its outputs, without gains, as one stage."""
    return Fused(linear, NormByOutputs(norm.epsilon, norm.gain), linear.count, "unused")
