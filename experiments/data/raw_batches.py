"""Batches as they lie in a file: columns of particles, before augmentation and features.

Legend: T particles of all batches, B events of all batches, C and E columns of both, A
augmentations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

from lgatr import Packing

MOST_BATCHES = 16
"""Batches that a GPU prepares together: an operation on all of them is one launch."""
MOST_PARTICLES = 1 << 16
"""Particles prepared together: some 20 MB of temporary memory, where launches hardly count."""

Item = TypeVar("Item")


def upload(values: npt.NDArray, device: torch.device) -> Tensor:
    """A NumPy array as a tensor on ``device``, which is not waited for."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor
    # From pageable memory, a copy would wait for the work of the GPU before it.
    return tensor.pin_memory().to(device, non_blocking=True)


def moved(packing: Packing, device: torch.device) -> Packing:
    """A packing of the CPU on ``device``, which is not waited for."""
    return packing.pin_memory().to(device) if device.type == "cuda" else packing


class RawBatches:
    """One batch or several, one after the other, as a file has them.

    Parameters
    ----------
    fourmomenta
        ``(T, 4)`` as (E, px, py, pz) in GeV.
    columns
        ``(C, T)`` further columns of the particles.
    names
        Names of the columns.
    draws
        ``(A, B)`` float64 random numbers from 0 to 1, one for each augmentation and event.
    target
        ``(B,)`` class labels.
    packings
        Offsets of each batch.
    of_events
        ``(E, B)`` further columns of the events.
    event_names
        Names of these.

    Attributes
    ----------
    whole
        Offsets of the events of all batches.
    """

    __slots__ = (
        "columns", "draws", "event_names", "fourmomenta", "names", "of_events", "packings",
        "target", "whole",
    )  # fmt: skip

    def __init__(
        self,
        fourmomenta: Tensor,
        columns: Tensor,
        names: tuple[str, ...],
        draws: Tensor,
        target: Tensor,
        packings: tuple[Packing, ...],
        of_events: Tensor,
        event_names: tuple[str, ...],
    ) -> None:
        self.fourmomenta, self.columns, self.names = fourmomenta, columns, names
        self.of_events, self.event_names = of_events, event_names
        self.draws, self.target, self.packings = draws, target, packings
        self.whole = packings[0]
        if len(packings) > 1:
            lengths = [n for packing in packings for n in packing.lengths]
            self.whole = moved(Packing.from_lengths(lengths), fourmomenta.device)

    @classmethod
    def joined(cls, parts: Sequence[RawBatches]) -> RawBatches:
        """Several of them as one; always in memory of their own."""
        return cls(
            torch.cat([part.fourmomenta for part in parts]),
            torch.cat([part.columns for part in parts], dim=1),
            parts[0].names,
            torch.cat([part.draws for part in parts], dim=1),
            torch.cat([part.target for part in parts]),
            tuple(packing for part in parts for packing in part.packings),
            torch.cat([part.of_events for part in parts], dim=1),
            parts[0].event_names,
        )

    def _converted(
        self, tensors: Callable[[Tensor], Tensor], packings: Callable[[Packing], Packing]
    ) -> RawBatches:
        return RawBatches(
            tensors(self.fourmomenta),
            tensors(self.columns),
            self.names,
            tensors(self.draws),
            tensors(self.target),
            tuple(packings(packing) for packing in self.packings),
            tensors(self.of_events),
            self.event_names,
        )

    def to(self, device: torch.device) -> RawBatches:
        """Copy to another device, without waiting where the memory is page-locked."""
        return self._converted(lambda x: x.to(device, non_blocking=True), lambda p: p.to(device))

    def pin_memory(self) -> RawBatches:
        """Copy to page-locked memory (called by data loaders)."""
        return self._converted(Tensor.pin_memory, lambda p: p.pin_memory())


def in_groups(
    items: Iterable[Item], particles: Callable[[Item], int], most: int
) -> Iterator[list[Item]]:
    """Groups of batches that are prepared together, in the order of ``items``.

    The first group is one batch and each is at most twice as long as the one before, so that
    the first batch comes soon. A group is of at most ``most`` batches, and of
    :data:`MOST_PARTICLES` particles unless a single batch has more.
    """
    group: list[Item] = []
    size, total = 1, 0
    for item in items:
        count = particles(item)
        if group and total + count > MOST_PARTICLES:
            yield group
            group, total = [], 0
        group.append(item)
        total += count
        if len(group) >= size:
            yield group
            group, total, size = [], 0, min(2 * size, most)
    if group:
        yield group
