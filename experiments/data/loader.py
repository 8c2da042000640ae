"""A data loader that can be resumed at any batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from data.jets import IntArray, Jets
from experiments.data.batch import EventBatch
from experiments.data.feeding import CPU, PREFETCHED, Feed
from experiments.data.preparation import Preparation
from experiments.data.raw_batches import RawBatches
from experiments.data.resident import ResidentJets
from experiments.data.sampler import BatchSampler
from experiments.data.workers import ended_workers, ignore_first_sigterm, private_generator


class JetDataset(Dataset[EventBatch]):
    """Packed batches of jets, indexed by lists of jet numbers.

    Parameters
    ----------
    jets
        The sample.
    prepare
        Makes batches of them.
    """

    def __init__(self, jets: Jets, prepare: Preparation) -> None:
        self.jets, self.prepare = jets, prepare

    @property
    def lengths(self) -> IntArray:
        """Particles of each jet in a batch, ``(J,)``."""
        lengths, limit = self.jets.lengths, self.prepare.max_constituents
        return np.minimum(lengths, limit) if limit else lengths

    def __getitem__(self, indices: IntArray) -> EventBatch:
        return self.prepare(self.jets.select(by_length(indices, self.lengths)))

    def __len__(self) -> int:
        return len(self.jets)


def by_length(indices: IntArray, lengths: IntArray) -> IntArray:
    """Numbers of jets, sorted by their lengths.

    The native backend attends to neighbours of equal length in one call.
    """
    return indices[np.argsort(lengths[indices], kind="stable")]


class _RawDataset(Dataset[RawBatches]):
    """The same batches before anything is computed of them, for other processes."""

    def __init__(self, dataset: JetDataset) -> None:
        self.jets, self.prepare, self.lengths = dataset.jets, dataset.prepare, dataset.lengths

    def __getitem__(self, indices: IntArray) -> RawBatches:
        return self.prepare.raw(self.jets.select(by_length(indices, self.lengths)))

    def __len__(self) -> int:
        return len(self.jets)


class ResumableLoader(DataLoader[EventBatch]):
    """A loader whose position is saved in checkpoints.

    Parameters
    ----------
    dataset
        The jets.
    sampler
        Their batches.
    num_workers
        Processes that read batches; 0 for the training process itself.
    device
        Where features are computed.
    resident
        The same jets in the memory of that device; None reads each batch from ``dataset``.
    """

    def __init__(
        self,
        dataset: JetDataset,
        sampler: BatchSampler,
        num_workers: int,
        device: torch.device = CPU,
        resident: ResidentJets | None = None,
    ) -> None:
        workers = 0 if resident is not None else num_workers
        raw: Any = _RawDataset(dataset)
        super().__init__(
            raw,
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            worker_init_fn=ignore_first_sigterm,
            generator=private_generator(),
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCHED if workers else None,
            pin_memory=device.type == "cuda" and resident is None,
        )
        self.batches, self.resident = sampler, resident
        self.feed = Feed(dataset.prepare, device, workers)
        self._lengths = dataset.lengths
        self._epoch, self._delivered = sampler.epoch, sampler.start

    def _sorted(self) -> Iterable[IntArray]:
        return (by_length(indices, self._lengths) for indices in self.batches)

    def __iter__(self) -> Any:
        # Workers run ahead of training: count the batches that were delivered.
        self._epoch, self._delivered = self.batches.epoch, self.batches.start
        for batch in self._prepared():
            self._delivered += 1
            yield batch

    def _prepared(self) -> Iterator[EventBatch]:
        if self.resident is not None:
            yield from self.feed.gathered(self.resident, self._sorted())
            return
        with ended_workers(super().__iter__()) as batches:
            yield from self.feed.moved(batches)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the number of batches delivered in it."""
        return {"epoch": self._epoch, "position": self._delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batch at which the state was saved."""
        self.batches.epoch, self.batches.start = state["epoch"], state["position"]
        if self.batches.start >= len(self.batches):
            self.batches.epoch, self.batches.start = state["epoch"] + 1, 0
