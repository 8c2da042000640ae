"""Equivariant linear maps: three matrix products, and the matrices from the parameters.

Legend: T tokens, I and O numbers of a row in and out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.kernels.cuda import has_triton_kernels
from lgatr.kernels.matmul import as_rows, input_gradient, product, weight_gradient
from lgatr.kernels.stage import Optionals, Stage, Tensors


@dataclass(frozen=True)
class LinearStage(Stage):
    """Inputs ``z (..., I_z)``, ``v (4, ..., I)``, ``b (3, ..., I)``, their matrices, the bias.

    Parameters
    ----------
    formula
        The plain formula.
    """

    formula: Callable[..., Tensors]

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.kernels.stage.Stage`."""
        return super().runs_on(x) or has_triton_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.kernels.stage.Stage`."""
        return self.formula(*inputs)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.kernels.stage.Stage`."""
        *states, bias = inputs[:3] + inputs[6:]
        outputs = []
        for x, matrix, shift in zip(states, inputs[3:6], (bias, None, None), strict=True):
            assert x is not None and matrix is not None
            # Not as rows: a view of rows would be another kind of input for compiled blocks.
            outputs.append(product(x.contiguous(), matrix, shift))
        return tuple(outputs), ()

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.kernels.stage.Stage`."""
        of_states, of_matrices = [], []
        for x, matrix, grad in zip(inputs[:3], inputs[3:6], grads, strict=True):
            assert x is not None and matrix is not None
            rows = as_rows(grad)
            of_states.append(input_gradient(rows, matrix).view(x.shape))
            of_matrices.append(weight_gradient(rows, as_rows(x)))
        of_bias = None if inputs[6] is None else as_rows(grads[0]).sum(0)
        return *of_states, *of_matrices, of_bias


class Placement:
    """A map that puts each entry of some tensors, with a sign, into places of others.

    Parameters
    ----------
    formula
        The map. It must do nothing but move entries, change signs, and fill in zeros.
    shapes
        Of its inputs; None for those that are None.
    """

    def __init__(
        self,
        formula: Callable[..., tuple[Tensor | None, ...]],
        shapes: tuple[torch.Size | None, ...],
    ) -> None:
        # Ask the map itself: it gets the number of each entry, and shows where that arrives.
        self.sizes = [0 if s is None else s.numel() for s in shapes]
        numbers = torch.arange(1, sum(self.sizes) + 1, dtype=torch.float64).split(self.sizes)
        probes = [None if s is None else n.view(s) for n, s in zip(numbers, shapes, strict=True)]
        found = [out for out in formula(*probes) if out is not None]
        self.out_shapes = [out.shape for out in found]
        flat = torch.cat([out.flatten() for out in found])
        self.source, self.sign = flat.abs().long(), flat.sign()
        # Where each entry arrives: at most twice, since a bivector is in both rows of its pair.
        self.target, self.target_sign = self._backwards(sum(self.sizes))

    def _backwards(self, count: int) -> tuple[Tensor, Tensor]:
        places = self.source.nonzero().flatten()
        order = self.source[places].argsort(stable=True)
        places = places[order]
        entries = self.source[places] - 1
        counts = torch.bincount(entries, minlength=count)
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(entries)) - first[entries]
        most = int(counts.max()) if count else 0
        target = torch.full((most, count), len(self.source))
        sign = torch.zeros(most, count, dtype=self.sign.dtype)
        target[rank, entries], sign[rank, entries] = places, self.sign[places]
        return target, sign

    @functools.lru_cache(maxsize=4)  # noqa: B019  (placements live as long as the program)
    def tables(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The signs, in the format of the numbers."""
        return self.sign.to(dtype), self.target_sign.to(dtype)


@dataclass(frozen=True)
class PlacementStage(Stage):
    """A :class:`Placement` as one look-up forward, and one or two backward.

    Parameters
    ----------
    formula
        The map itself.
    placement
        Where it puts things.
    """

    formula: Callable[..., tuple[Tensor | None, ...]]
    placement: Placement

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.kernels.stage.Stage`."""
        return tuple(out for out in self.formula(*inputs) if out is not None)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.kernels.stage.Stage`."""
        given = [x.flatten() for x in inputs if x is not None]
        flat = torch.cat([given[0].new_zeros(1), *given])
        sign, _ = self.placement.tables(flat.dtype)
        out = flat.index_select(0, self.placement.source).mul_(sign)
        shapes = self.placement.out_shapes
        parts = out.split([shape.numel() for shape in shapes])
        return tuple(x.view(shape) for x, shape in zip(parts, shapes, strict=True)), ()

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.kernels.stage.Stage`."""
        flat = torch.cat([*(g.flatten() for g in grads), grads[0].new_zeros(1)])
        _, sign = self.placement.tables(flat.dtype)
        target = self.placement.target
        total = flat.index_select(0, target[0]).mul_(sign[0])
        for places, signs in zip(target[1:], sign[1:], strict=True):
            total.addcmul_(flat.index_select(0, places), signs)
        parts = total.split(self.placement.sizes)
        return [
            None if x is None else part.view(x.shape) for x, part in zip(inputs, parts, strict=True)
        ]
