"""Batches of events that lie in memory and have equally many particles; resumable.

Legend: N events of the sample, P particles of each, S scalar features, B events of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.data.batch import EventBatch
from experiments.data.sampler import BatchSampler
from lgatr import Packing


@dataclass(frozen=True)
class FixedEvents:
    """Events of one process.

    Parameters
    ----------
    fourmomenta
        ``(N, P, 4)`` float64 as (E, px, py, pz) in GeV.
    scalars
        ``(P, S)`` features of the particles, the same in all events.
    target
        ``(N,)`` float64.
    condition
        ``(N, U, 4)`` float64 four-momenta of what each event belongs to in GeV, or None.
    """

    fourmomenta: Tensor
    scalars: Tensor
    target: Tensor
    condition: Tensor | None = None

    def __len__(self) -> int:
        return len(self.target)

    def to(self, device: torch.device) -> FixedEvents:
        """The same events on a device."""
        parts = self.fourmomenta, self.scalars, self.target, self.condition
        return FixedEvents(*(None if x is None else x.to(device) for x in parts))  # type: ignore[arg-type]

    def batch(self, numbers: Tensor) -> EventBatch:
        """The events of these numbers, in this order."""
        count, particles = len(numbers), self.fourmomenta.shape[1]
        # Lengths as numbers: offsets on a GPU are not waited for.
        packing = Packing.from_lengths([particles] * count).to(self.target.device)
        return EventBatch(
            self.fourmomenta.index_select(0, numbers).flatten(0, 1),
            self.scalars.repeat(count, 1),
            packing,
            self.target.index_select(0, numbers),
            None if self.condition is None else self.condition.index_select(0, numbers),
        )


class FixedLoader:
    """A loader whose position is saved in checkpoints.

    Parameters
    ----------
    events
        The sample, on the device where batches are wanted.
    sampler
        Says which events make a batch.
    """

    def __init__(self, events: FixedEvents, sampler: BatchSampler) -> None:
        self.events, self.batches = events, sampler
        self._epoch, self._delivered = sampler.epoch, sampler.start

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[EventBatch]:
        self._epoch, self._delivered = self.batches.epoch, self.batches.start
        device = self.events.target.device
        for numbers in self.batches:
            self._delivered += 1
            yield self.events.batch(torch.from_numpy(numbers).to(device))

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the number of batches delivered in it."""
        return {"epoch": self._epoch, "position": self._delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batch at which the state was saved."""
        self.batches.epoch, self.batches.start = state["epoch"], state["position"]
        if self.batches.start >= len(self.batches):
            self.batches.epoch, self.batches.start = state["epoch"] + 1, 0
