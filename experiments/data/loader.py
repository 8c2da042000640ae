"""A data loader that can be resumed at any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from data.jets import IntArray, Jets
from experiments.data.batch import EventBatch
from experiments.data.preparation import Preparation
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
        # The native backend attends to neighbours of equal length in one call.
        indices = indices[np.argsort(self.lengths[indices], kind="stable")]
        return self.prepare(self.jets.select(indices))

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
        Processes that prepare batches; 0 for the training process itself.
    """

    def __init__(self, dataset: JetDataset, sampler: BatchSampler, num_workers: int) -> None:
        super().__init__(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=num_workers,
            worker_init_fn=ignore_first_sigterm,
            generator=private_generator(),
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
        self.batches = sampler
        self._epoch, self._delivered = sampler.epoch, sampler.start

    def __iter__(self) -> Any:
        # Workers run ahead of training: count the batches that were delivered.
        self._epoch, self._delivered = self.batches.epoch, self.batches.start
        with ended_workers(super().__iter__()) as batches:
            for batch in batches:
                self._delivered += 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the number of batches delivered in it."""
        return {"epoch": self._epoch, "position": self._delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batch at which the state was saved."""
        self.batches.epoch, self.batches.start = state["epoch"], state["position"]
        if self.batches.start >= len(self.batches):
            self.batches.epoch, self.batches.start = state["epoch"] + 1, 0
