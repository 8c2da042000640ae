"""The joint norm of four-vectors and scalars."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import OfSum, Stage, Tensors
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


class SlimSumAndNorm(OfSum):
    """The sum of two states (``v`` and ``s`` of each), and its norm."""

    operation = Operation(__package__, "slim_sum_and_norm", TRITON, otherwise="sum, slim_norm")
    parts = 2
