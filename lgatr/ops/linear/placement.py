"""Parameters into matrices by look-up: where each entry arrives is worked out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from lgatr.ops._runtime.matmul import as_rows
from lgatr.ops.linear.matrices import Formula

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
        self.out_sizes = [out.numel() for out in found]
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
        most = int(counts.max()) if count else 1  # a row of nothing, without channels
        target = torch.full((most, count), len(self.source), device="cpu")
        sign = torch.zeros(most, count, dtype=self.sign.dtype, device="cpu")
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


def placement_of(formula: Formula | None, parameters: Sequence[Tensor | None]) -> Placement | None:
    """What a formula does with the entries of parameters of these shapes; None without one."""
    if formula is None:
        return None
    return _placement(formula, *[None if x is None else x.shape for x in parameters])


@lru_cache(maxsize=256)
def _placement(formula: Formula, *shapes: torch.Size | None) -> Placement:
    with torch.inference_mode(False):  # a later training step may use it
        return Placement(formula, shapes)


LookUp = Callable[[list[Tensor], Tensor, Tensor, int], Tensor]
"""``(parts, table, signs, first)`` to signed sums: see :func:`look_up`."""


def look_up(parts: list[Tensor], table: Tensor, signs: Tensor, first: int) -> Tensor:
    """Signed sums of entries, by torch's operations.

    Parameters
    ----------
    parts
        The entries, each part ``(n,)``; they are counted through.
    table, signs
        ``(R, N)``: indices of the R entries that are added up, and their signs. Where a sign is
        zero, the index is that of no entry: 0 if ``first`` is 1, else their number.
    first
        Index of the first entry, 0 or 1.

    Returns
    -------
    ``(N,)``.
    """
    zero = parts[0].new_zeros(1)
    entries = torch.cat([zero, *parts] if first else [*parts, zero])
    total = entries.index_select(0, table[0]).mul_(signs[0])
    for places, factors in zip(table[1:], signs[1:], strict=True):
        total.addcmul_(entries.index_select(0, places), factors)
    return total


def place(
    placement: Placement, parameters: Sequence[Tensor | None], by: LookUp = look_up
) -> list[Tensor]:
    """The matrices, and the bias if there is one; ``by`` looks entries up."""
    given = [x.flatten() for x in parameters if x is not None]
    (source, sign), _ = placement.tables(given[0].device, given[0].dtype)
    parts = by(given, source[None], sign[None], 1).split_with_sizes(placement.out_sizes)
    return [x.view(shape) for x, shape in zip(parts, placement.out_shapes, strict=True)]


def matrices_of(
    formula: Formula | None, given: Sequence[Tensor | None], by: LookUp = look_up
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor | None, tuple[Tensor, ...]]:
    """The matrices of a map, its bias, and which of them its gradient needs kept.

    Parameters
    ----------
    formula
        Makes them of the parameters; None if they are given themselves.
    given
        The parameters, or three matrices and a bias or None.
    by
        Looks entries up.
    """
    placement = placement_of(formula, given)
    if placement is None:
        of_z, of_v, of_b, bias = given
        assert of_z is not None and of_v is not None and of_b is not None
        return (of_z, of_v, of_b), bias, ()
    of_z, of_v, of_b, *rest = place(placement, given, by)
    return (of_z, of_v, of_b), rest[0] if rest else None, (of_z, of_v, of_b)


def place_gradients(
    placement: Placement,
    parameters: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    by: LookUp = look_up,
) -> list[Tensor | None]:
    """The gradients of the parameters, from those of the matrices and the bias."""
    given = [g.flatten() for g in grads if g is not None]
    _, (target, sign) = placement.tables(given[0].device, given[0].dtype)
    parts = by(given, target, sign, 0).split_with_sizes(placement.sizes)
    return [
        None if x is None else part.view(x.shape) for x, part in zip(parameters, parts, strict=True)
    ]


def gradients_of_map(
    placement: Placement | None,
    given: Sequence[Tensor | None],
    of_matrices: list[Tensor],
    grad: Tensor,
    by: LookUp = look_up,
) -> Sequence[Tensor | None]:
    """The gradients of a map's inputs after the state.

    Parameters
    ----------
    placement, given
        The map, and those inputs: matrices and bias, or parameters.
    of_matrices
        Gradients of the three matrices.
    grad
        Gradient of the scalar sector of the output, ``(..., O)``.
    by
        Looks entries up.
    """
    if placement is None:
        return *of_matrices, None if given[3] is None else _summed(grad)
    if len(placement.out_shapes) > len(of_matrices):
        of_matrices = [*of_matrices, _summed(grad)]
    return place_gradients(placement, given, of_matrices, by)


def _summed(grad: Tensor) -> Tensor:
    return as_rows(grad).sum(0)
