"""The joint norm of four-vectors and scalars."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import Stage, Tensors
from lgatr.ops.slim_norm.formula import rms_norm


@dataclass(frozen=True, eq=False)
class SlimNorm(Stage):
    """Inputs ``v (T, 4, C)``, ``s (T, S)``, the gain of each channel of both, or None.

    Parameters
    ----------
    epsilon
        Added to the mean square.
    """

    operation = Operation(__package__, "slim_norm", CPP, TRITON)
    epsilon: float

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return rms_norm(self.epsilon, *inputs)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class SlimSumAndNorm(Stage):
    """The sum of two states, and its norm: what is between the parts of a block.

    Inputs are ``v`` and ``s`` of a state, of another or None for none, and the gains as for
    :class:`SlimNorm`; outputs ``v`` and ``s`` of the sum, and of the normalised sum.

    Parameters
    ----------
    norm
        The norm.
    """

    operation = Operation(__package__, "slim_sum_and_norm", TRITON, otherwise="sum, slim_norm")
    needs_outputs = True
    norm: SlimNorm

    def plain(self, *inputs: Tensor | None) -> Tensors:
        total = _total(*inputs[:4])
        return *total, *self.norm.plain(*total, *inputs[4:])

    def without_passes(self, *inputs: Tensor | None) -> Tensors:
        total = _total(*inputs[:4])
        return *total, *self.norm(*total, *inputs[4:])


def _total(
    v: Tensor | None, s: Tensor | None, more_v: Tensor | None, more_s: Tensor | None
) -> Tensors:
    assert v is not None and s is not None
    return (v, s) if more_v is None or more_s is None else (v + more_v, s + more_s)
