"""Equivariant linear maps: three matrix products, and the matrices from the parameters.

Legend: T tokens, I and O numbers of a row in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.layout import Sectors, flat, unflat
from lgatr.ops._runtime.matmul import as_rows, input_gradient, product, weight_gradient
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors, Then
from lgatr.ops._runtime.triton import has_triton_kernels
from lgatr.ops.gate.stage import GateStage


@dataclass(frozen=True, eq=False)
class LinearStage(Stage):
    """Inputs ``z (..., I_z)``, ``v (4, ..., I)``, ``b (3, ..., I)``, their matrices, the bias.

    Parameters
    ----------
    formula
        The plain formula.
    """

    formula: Callable[..., Tensors]

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return super().runs_on(x) or has_triton_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        z, v, b, *matrices, bias = inputs
        assert z is not None and v is not None and b is not None
        if has_triton_kernels(z):
            return tuple(_by_triton(Sectors(z, v, b), matrices, bias)), ()
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
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        of_states, of_matrices = [], []
        by_triton = has_triton_kernels(grads[0])
        if by_triton:
            transposed = [None if m is None else m.t() for m in inputs[3:6]]
            of_states = list(_by_triton(Sectors(*grads), transposed, None))
        for x, matrix, grad in zip(inputs[:3], inputs[3:6], grads, strict=True):
            assert x is not None and matrix is not None
            rows = as_rows(grad)
            if not by_triton:
                of_states.append(input_gradient(rows, matrix).view(x.shape))
            of_matrices.append(weight_gradient(rows, as_rows(x)))
        of_bias = None if inputs[6] is None else as_rows(grads[0]).sum(0)
        return *of_states, *of_matrices, of_bias


def _by_triton(x: Sectors, matrices: Optionals, bias: Tensor | None) -> Sectors:
    from lgatr.ops.linear import triton as triton_linear

    of_z, of_v, of_b = matrices
    assert of_z is not None and of_v is not None and of_b is not None
    out = triton_linear.product(flat(x), (of_z, of_v, of_b), bias)
    return unflat(out, x)


class GatedLinearStage(Then):
    """A :class:`~lgatr.ops.gate.stage.GateStage`, then a :class:`LinearStage`.

    On CUDA the gates are applied while the linear map reads, where that was measured to be faster.

    Parameters
    ----------
    gate, linear
        The stages.
    """

    def __init__(self, gate: GateStage, linear: LinearStage) -> None:
        super().__init__(gate, linear, count=3, middle="again")
        self.gate = gate

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        z, v, b, of_z, of_v, of_b, bias = inputs
        assert z is not None and v is not None and b is not None
        if not has_triton_kernels(z):
            return super().forward(*inputs)
        from lgatr.ops.linear import triton as triton_linear

        assert of_z is not None and of_v is not None and of_b is not None
        x = flat(Sectors(z, v, b))
        w = x.v.shape[-1]
        out = triton_linear.gated_product(
            x,
            self.gate.function(x.z[:, : w // 2]).contiguous(),
            self.gate.scalar_function(x.z[:, w:]).contiguous(),
            (of_z, of_v, of_b),
            bias,
            lambda: Sectors(*self.gate.forward(*x)[0]),
        )
        return tuple(unflat(out, Sectors(z, v, b))), ()


Tables = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


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
        numbers = torch.arange(1, sum(self.sizes) + 1, dtype=torch.float64, device="cpu").split(
            self.sizes
        )
        probes = [None if s is None else n.view(s) for n, s in zip(numbers, shapes, strict=True)]
        found = [out for out in formula(*probes) if out is not None]
        self.out_shapes = [out.shape for out in found]
        flat = torch.cat([out.flatten() for out in found])
        self.source, self.sign = flat.abs().long(), flat.sign()
        # Where each entry arrives: at most twice, since a bivector is in both rows of its pair.
        self.target, self.target_sign = self._backwards(sum(self.sizes))
        self._tables: dict[tuple[torch.device, torch.dtype], Tables] = {}

    def _backwards(self, count: int) -> tuple[Tensor, Tensor]:
        places = self.source.nonzero().flatten()
        order = self.source[places].argsort(stable=True)
        places = places[order]
        entries = self.source[places] - 1
        counts = torch.bincount(entries, minlength=count)
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(entries), device="cpu") - first[entries]
        most = int(counts.max()) if count else 0
        target = torch.full((most, count), len(self.source))
        sign = torch.zeros(most, count, dtype=self.sign.dtype)
        target[rank, entries], sign[rank, entries] = places, self.sign[places]
        return target, sign

    def tables(self, device: torch.device, dtype: torch.dtype) -> Tables:
        """Source and sign, then target and sign, on a device and in the format of the numbers."""
        found = self._tables.get((device, dtype))
        if found is None:
            with torch.inference_mode(False):  # a later training step may use them
                found = (
                    (self.source.to(device), self.sign.to(device, dtype)),
                    (self.target.to(device), self.target_sign.to(device, dtype)),
                )
            self._tables[device, dtype] = found
        return found


@dataclass(frozen=True, eq=False)
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

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`; on CUDA some twenty launches become two."""
        return super().runs_on(x) or has_triton_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return tuple(out for out in self.formula(*inputs) if out is not None)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        given = [x.flatten() for x in inputs if x is not None]
        (source, sign), _ = self.placement.tables(given[0].device, given[0].dtype)
        if has_triton_kernels(given[0]):
            from lgatr.ops.linear.triton_matrices import look_up

            out = look_up(torch.cat(given), source[None], sign[None], 1)
        else:
            entries = torch.cat([given[0].new_zeros(1), *given])
            out = entries.index_select(0, source).mul_(sign)
        shapes = self.placement.out_shapes
        parts = out.split([shape.numel() for shape in shapes])
        return tuple(x.view(shape) for x, shape in zip(parts, shapes, strict=True)), ()

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        given = [g.flatten() for g in grads]
        _, (target, sign) = self.placement.tables(given[0].device, given[0].dtype)
        if has_triton_kernels(given[0]):
            from lgatr.ops.linear.triton_matrices import look_up

            total = look_up(torch.cat(given), target, sign, 0)
        else:
            entries = torch.cat([*given, given[0].new_zeros(1)])
            total = entries.index_select(0, target[0]).mul_(sign[0])
            for places, signs in zip(target[1:], sign[1:], strict=True):
                total.addcmul_(entries.index_select(0, places), signs)
        parts = total.split(self.placement.sizes)
        return [
            None if x is None else part.view(x.shape) for x, part in zip(inputs, parts, strict=True)
        ]
