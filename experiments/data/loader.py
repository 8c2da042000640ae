"""A data loader that can stop and go on at the exact batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from data.jets import IntArray, Jets
from experiments.data.batch import EventBatch
from experiments.data.preparation import Preparation
from experiments.data.sampler import BatchSampler
from experiments.data.workers import leave_the_end_to_the_run, own_generator


class JetDataset(Dataset[EventBatch]):
    """Packed batches of jets by jet number.

    Parameters
    ----------
    jets
        The sample.
    prepare
        What is kept, changed and computed of them.
    """

    def __init__(self, jets: Jets, prepare: Preparation) -> None:
        self.jets, self.prepare = jets, prepare

    @property
    def lengths(self) -> IntArray:
        """Particles per jet that a batch will hold, ``(J,)``."""
        lengths, most = self.jets.lengths, self.prepare.max_constituents
        return np.minimum(lengths, most) if most else lengths

    def __getitem__(self, indices: IntArray) -> EventBatch:
        # Neighbours of equal length are attended to in one call (see the native backend).
        indices = indices[np.argsort(self.lengths[indices], kind="stable")]
        return self.prepare(self.jets.select(indices))

    def __len__(self) -> int:
        return len(self.jets)


class ResumableLoader(DataLoader[EventBatch]):
    """A loader whose place in the epoch is saved and restored with each checkpoint.

    Parameters
    ----------
    dataset
        The jets.
    sampler
        Their batches.
    num_workers
        Processes that prepare batches; 0 does it in the training process.
    """

    def __init__(self, dataset: JetDataset, sampler: BatchSampler, num_workers: int) -> None:
        super().__init__(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=num_workers,
            worker_init_fn=leave_the_end_to_the_run,
            generator=own_generator(),
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
        self.batches = sampler
        self._epoch, self._delivered = sampler.epoch, sampler.start

    def __iter__(self) -> Any:
        # Workers run ahead of training; what counts is what has been handed out.
        self._epoch, self._delivered = self.batches.epoch, self.batches.start
        for batch in super().__iter__():
            self._delivered += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the number of batches handed out in it."""
        return {"epoch": self._epoch, "position": self._delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.batches.epoch, self.batches.start = state["epoch"], state["position"]
        if self.batches.start >= len(self.batches):
            self.batches.epoch, self.batches.start = state["epoch"] + 1, 0
