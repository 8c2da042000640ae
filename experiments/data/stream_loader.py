"""A data loader of streams that can be resumed at any batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from experiments.data.batch import EventBatch
from experiments.data.chunk_stream import JetStream
from experiments.data.feeding import CPU, PREFETCHED, Feed
from experiments.data.raw_batches import RawBatches
from experiments.data.workers import ended_workers, ignore_first_sigterm, private_generator

_ENDLESS_LENGTH = 1 << 40  # batches; Lightning sums lengths over ranks in 64 bits


class _RawStream(IterableDataset[RawBatches]):
    """The batches of a stream before anything is computed of them."""

    def __init__(self, stream: JetStream) -> None:
        super().__init__()
        self.stream = stream

    def __iter__(self) -> Iterator[RawBatches]:
        return self.stream.raw()


class StreamLoader(DataLoader[EventBatch]):
    """A loader of a stream whose position is saved in checkpoints.

    Parameters
    ----------
    stream
        The batches.
    num_workers
        Processes that read them; 0 for the training process itself.
    device
        Where features are computed.
    """

    def __init__(self, stream: JetStream, num_workers: int, device: torch.device = CPU) -> None:
        raw: Any = _RawStream(stream)
        super().__init__(
            raw,
            batch_size=None,
            num_workers=num_workers,
            worker_init_fn=ignore_first_sigterm,
            generator=private_generator(),
            prefetch_factor=PREFETCHED if num_workers else None,
            pin_memory=device.type == "cuda",
        )
        self.stream = stream
        self.feed = Feed(stream.prepare, device, num_workers)
        self._delivered = 0

    def __len__(self) -> int:
        """Length of an endless stream, larger than any training; a single pass has none.

        Lightning prefetches a batch from loaders without a length, which a resumed run would skip.
        """
        if self.stream.seed is None:
            raise TypeError("one pass over a stream has no length")
        return _ENDLESS_LENGTH

    def __iter__(self) -> Any:
        self._delivered = self.stream.start
        with ended_workers(super().__iter__()) as batches:
            for batch in self.feed.moved(batches):
                self._delivered += 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        """Number of batches delivered since the start of training."""
        return {"position": self._delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batch at which the state was saved."""
        self.stream.start = state["position"]
