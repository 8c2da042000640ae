"""The last part of the way to the network: to the device, augmentation, features."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import torch

from data.jets import IntArray
from experiments.data.batch import EventBatch
from experiments.data.preparation import Preparation
from experiments.data.raw_batches import MOST_BATCHES, RawBatches, in_groups
from experiments.data.resident import ResidentJets

CPU = torch.device("cpu")
PREFETCHED = 4
"""Batches that each reading process is ahead."""


class Feed:
    """Makes the batches of a loader on the device of the training, on a GPU several at a time.

    Parameters
    ----------
    prepare
        Makes batches.
    device
        Where features are computed.
    workers
        Processes that read ahead.

    Attributes
    ----------
    waited
        Seconds that whoever takes the batches has waited for them.
    """

    def __init__(self, prepare: Preparation, device: torch.device, workers: int) -> None:
        self.prepare, self.device = prepare, device
        # A CPU computes the ends of arrays otherwise than their middle, so that the last bit of a
        # feature would depend on which batches are prepared together; and nothing is launched.
        self.most = MOST_BATCHES if device.type == "cuda" else 1
        # While one half of what was read ahead is prepared, processes read the other.
        self.most_moved = max(min(self.most, workers * PREFETCHED // 2), 1)
        self.waited = 0.0

    def gathered(self, resident: ResidentJets, batches: Iterable[IntArray]) -> Iterator[EventBatch]:
        """Batches of jets that are on the device, by their numbers."""
        lengths = resident.lengths
        groups = in_groups(batches, lambda numbers: int(lengths[numbers].sum()), self.most)
        return self._timed(
            batch
            for group in groups
            for batch in self.prepare.finished(resident.gathered(group, self.prepare))
        )

    def moved(self, batches: Iterable[RawBatches]) -> Iterator[EventBatch]:
        """Batches that were read elsewhere."""
        groups = in_groups(batches, lambda raw: len(raw.fourmomenta), self.most_moved)
        return self._timed(
            batch
            for group in groups
            for batch in self.prepare.finished(
                RawBatches.joined([raw.to(self.device) for raw in group])
            )
        )

    def _timed(self, batches: Iterator[EventBatch]) -> Iterator[EventBatch]:
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch
