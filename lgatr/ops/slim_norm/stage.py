"""The joint norm of four-vectors and scalars."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lgatr.ops._runtime.choice import CPP, Operation
from lgatr.ops._runtime.stage import Stage, Tensors
from lgatr.ops.slim_norm.formula import EPSILON, rms_norm


@dataclass(frozen=True, eq=False)
class SlimNorm(Stage):
    """Inputs ``v (T, 4, C)``, ``s (T, S)``, the gain of each channel of both, or None.

    Parameters
    ----------
    epsilon
        Added to the mean square.
    """

    operation = Operation(__package__, "slim_norm", CPP)
    epsilon: float

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return rms_norm(self.epsilon, *inputs)  # type: ignore[arg-type]


_kept_norm = lru_cache(64)(SlimNorm)  # dynamo warns of cached functions


def vector_rms_norm(
    vectors: Tensor,
    scalars: Tensor,
    weight_v: Tensor | None = None,
    weight_s: Tensor | None = None,
    epsilon: float = EPSILON,
) -> tuple[Tensor, Tensor]:
    """Divide vectors and scalars by their joint root mean square; see :func:`inverse_rms`.

    Parameters
    ----------
    vectors, scalars
        ``(..., 4, C)`` and ``(..., S)``.
    weight_v, weight_s
        Gains ``(C,)`` and ``(S,)``; both or neither.
    epsilon
        Added to the mean square.
    """
    make = SlimNorm if torch.compiler.is_compiling() else _kept_norm
    v, s = make(epsilon)(vectors, scalars, weight_v, weight_s)
    return v, s
