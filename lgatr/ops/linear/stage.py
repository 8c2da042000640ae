"""The equivariant linear map of hidden states."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.choice import TORCH, TRITON, Operation
from lgatr.ops._runtime.stage import Stage, Tensors
from lgatr.ops.linear.formula import linear_map
from lgatr.ops.linear.matrices import Placement, ScalarMixing, SectorMatrices, assembled

_LINEAR = Operation(__package__, "linear", TORCH, TRITON)
_ASSEMBLY = Operation(__package__, "assembly", TORCH, TRITON)


class Linear(Stage):
    """A linear map of ``z (..., I_z)``, ``v (4, ..., I)``, ``b (3, ..., I)``.

    The inputs after the state are the matrices of the three sectors and the bias or None; or, with
    a placement, the parameters that it makes them of.

    Parameters
    ----------
    placement
        From parameters to matrices.
    """

    operation = _LINEAR

    def __init__(self, placement: Placement | None = None) -> None:
        self.placement = placement
        self.num_kept = 0 if placement is None else 3

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        if self.placement is None:
            return linear_map(*inputs)  # type: ignore[arg-type]
        return linear_map(*inputs[:3], *self.placement.formula(*inputs[3:]))  # type: ignore[arg-type]


LINEAR = Linear()
"""The map by given matrices, for stages that contain it."""


class SectorMap(NamedTuple):
    """A linear map by its parameters; the matrices are assembled where it is applied.

    Parameters
    ----------
    stage
        The map, for a state and these inputs.
    inputs
        The parameters; those that it has not are None.
    """

    stage: Linear
    inputs: tuple[Tensor | None, ...]


class Assembly(Stage):
    """Matrices and bias from parameters.

    Parameters
    ----------
    placement
        Where it puts them.
    """

    operation = _ASSEMBLY

    def __init__(self, placement: Placement) -> None:
        self.placement = placement

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return tuple(out for out in self.placement.formula(*inputs) if out is not None)


@lru_cache(maxsize=64)
def _stage(out_groups: int, in_groups: int, parts: int, *shapes: torch.Size | None) -> Linear:
    return Linear(Placement(partial(assembled, out_groups, in_groups, parts), shapes))


def sector_map(
    weight: Tensor,
    mixing: ScalarMixing,
    out_groups: int = 1,
    in_groups: int = 1,
    parts: int = 0,
) -> SectorMap | SectorMatrices:
    """An equivariant linear map from its public parameters.

    Parameters
    ----------
    weight
        ``(O, I, 10)`` or ``(O, I, 5)``.
    mixing
        Weights of the auxiliary scalars, and the biases.
    out_groups, in_groups, parts
        See :func:`~lgatr.ops.linear.matrices.assembled`.
    """
    parameters = (weight, *mixing)
    # A placement is worked out with real numbers, and kept.
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return SectorMatrices(*assembled(out_groups, in_groups, parts, *parameters))  # type: ignore[arg-type]
    shapes = [None if x is None else x.shape for x in parameters]
    return SectorMap(_stage(out_groups, in_groups, parts, *shapes), parameters)


def sector_matrices(
    weight: Tensor,
    mixing: ScalarMixing,
    out_groups: int = 1,
    in_groups: int = 1,
    parts: int = 0,
) -> SectorMatrices:
    """The matrices of :func:`sector_map`, for those that change them."""
    found = sector_map(weight, mixing, out_groups, in_groups, parts)
    if isinstance(found, SectorMatrices):
        return found
    assert found.stage.placement is not None
    z, v, b, *bias = Assembly(found.stage.placement)(*found.inputs)
    return SectorMatrices(z, v, b, bias[0] if bias else None)


def side_by_side(
    left: SectorMap | SectorMatrices, right: SectorMap | SectorMatrices
) -> SectorMap | SectorMatrices:
    """Two maps as one with the outputs of both, sector by sector; a bias if both have one."""
    if isinstance(left, SectorMap) and isinstance(right, SectorMap):
        return SectorMap(_pair(left.stage, right.stage, *_shapes(left), *_shapes(right)),
                         (*left.inputs, *right.inputs))  # fmt: skip
    assert isinstance(left, SectorMatrices) and isinstance(right, SectorMatrices)
    return SectorMatrices(*_joined(left, right))  # type: ignore[arg-type]


def _shapes(found: SectorMap) -> list[torch.Size | None]:
    return [None if x is None else x.shape for x in found.inputs]


def _joined(
    left: tuple[Tensor | None, ...], right: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    pairs = zip(left, right, strict=True)
    return tuple(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs)


@lru_cache(maxsize=64)
def _pair(left: Linear, right: Linear, *shapes: torch.Size | None) -> Linear:
    assert left.placement is not None and right.placement is not None
    first, second = left.placement.formula, right.placement.formula
    count = len(shapes) // 2

    def both(*parameters: Tensor | None) -> tuple[Tensor | None, ...]:
        return _joined(first(*parameters[:count]), second(*parameters[count:]))

    return Linear(Placement(both, shapes))


def sector_linear(x: Sectors, matrices: SectorMap | SectorMatrices) -> Sectors:
    """Apply an equivariant linear map: three dense matrix products.

    Under autocast the invariants are multiplied in its format, vectors and bivectors in that of
    the weights; see :mod:`lgatr.utils.autocast`.
    """
    stage, inputs = stage_of(matrices)
    return Sectors(*stage(*x, *inputs))


def stage_of(matrices: SectorMap | SectorMatrices) -> tuple[Linear, tuple[Tensor | None, ...]]:
    """The stage of a map, and its inputs after the state."""
    return matrices if isinstance(matrices, SectorMap) else (LINEAR, matrices)
