"""A data loader that can stop and go on at the exact batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from data.jets import IntArray, Jets
from experiments.batch import EventBatch
from experiments.data.sampler import BatchSampler
from experiments.features import compute_features, feature_names
from lgatr import Packing


def event_batch(jets: Jets, features: Sequence[str], max_constituents: int) -> EventBatch:
    """Jets as a packed batch; see :class:`JetDataset`."""
    if max_constituents and int(jets.lengths.max()) > max_constituents:
        jets = jets.leading(max_constituents)
    fourmomenta = torch.from_numpy(np.ascontiguousarray(jets.constituents))
    packing = Packing.from_lengths(jets.lengths.tolist())
    columns = {name: torch.from_numpy(np.asarray(c)) for name, c in jets.particles.items()}
    scalars = compute_features(fourmomenta, packing, features, columns)
    return EventBatch(fourmomenta, scalars, packing, torch.from_numpy(jets.labels))


class JetDataset(Dataset[EventBatch]):
    """Packed batches of jets by jet number.

    Parameters
    ----------
    jets
        The sample.
    features
        Names of scalar features; see :mod:`experiments.features`.
    max_constituents
        Keep this many leading constituents of each jet; 0 keeps all.
    """

    def __init__(self, jets: Jets, features: Sequence[str], max_constituents: int) -> None:
        self.jets, self.features = jets, feature_names(features)
        self.max_constituents = max_constituents

    @property
    def lengths(self) -> IntArray:
        """Particles per jet that a batch will hold, ``(J,)``."""
        lengths = self.jets.lengths
        return np.minimum(lengths, self.max_constituents) if self.max_constituents else lengths

    def __getitem__(self, indices: IntArray) -> EventBatch:
        # Neighbours of equal length are attended to in one call (see the native backend).
        indices = indices[np.argsort(self.lengths[indices], kind="stable")]
        jets = self.jets.select(indices)
        return event_batch(jets, self.features, self.max_constituents)

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
