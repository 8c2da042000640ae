"""The equivariant layer norm of hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import Fused, Stage, Tensors
from lgatr.ops.linear.matrices import SectorMatrices
from lgatr.ops.linear.stage import Linear, SectorMap, stage_of
from lgatr.ops.norm.formula import EPSILON, layer_norm

_NORM = Operation(__package__, "norm", CPP, TRITON)
_NORM_BY_OUTPUTS = Operation(__package__, "norm_by_outputs", CPP, otherwise="norm")


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

    operation = _NORM
    epsilon: float
    gain: float

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return layer_norm(self.epsilon, self.gain, *inputs)  # type: ignore[arg-type]


class NormByOutputs(Norm):
    """The norm without gains, whose gradient needs its outputs and not its inputs."""

    operation = _NORM_BY_OUTPUTS
    needs_outputs = True

    def without_passes(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return Norm(self.epsilon, self.gain)(*inputs)


def _linear_norm(linear: Linear, inputs: int, epsilon: float, gain: float) -> Fused:
    return Fused(linear, NormByOutputs(epsilon, gain), 3 + inputs, "unused")


# Dynamo warns of cached functions.
_kept_norm, _kept_linear_norm = lru_cache(64)(Norm), lru_cache(256)(_linear_norm)


def sector_layer_norm(
    x: Sectors,
    weight_mv: Tensor | None = None,
    weight_s: Tensor | None = None,
    epsilon: float = EPSILON,
    gain: float = 1.0,
) -> Sectors:
    """Normalise the multivectors of a state, and its scalars by ordinary layer norm.

    Parameters
    ----------
    x
        The state.
    weight_mv
        Gain of each channel and grade, ``(C, 5)``.
    weight_s
        Gain of each scalar channel, ``(S,)``.
    epsilon
        Floor of the mean squared norm.
    gain
        Factor on the multivectors.
    """
    make = Norm if torch.compiler.is_compiling() else _kept_norm
    return Sectors(*make(epsilon, gain)(*x, weight_mv, weight_s))


def sector_linear_norm(
    x: Sectors, matrices: SectorMap | SectorMatrices, epsilon: float = EPSILON, gain: float = 1.0
) -> Sectors:
    """:func:`sector_layer_norm` without learned gains of a linear map, as one stage."""
    linear, inputs = stage_of(matrices)
    make = _linear_norm if torch.compiler.is_compiling() else _kept_linear_norm
    stage = make(linear, len(inputs), epsilon, gain)
    return Sectors(*stage(*x, *inputs, None, None))
