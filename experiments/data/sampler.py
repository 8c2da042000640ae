"""Choose the jets of each batch by number of jets, number of particles, or both."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from data.jets import IntArray


def cut_batches(lengths: IntArray, batch_size: int, token_budget: int) -> list[slice]:
    """Split a sequence of jets into batches within both limits.

    Parameters
    ----------
    lengths
        Particles of each jet, in order.
    batch_size
        Maximum number of jets in a batch.
    token_budget
        Maximum number of particles in a batch; 0 for no limit. A longer jet is a batch of its own.
    """
    ends = np.cumsum(lengths)
    batches, start = [], 0
    while start < len(lengths):
        stop = start + batch_size
        if token_budget:
            used = ends[start - 1] if start else 0
            stop = min(stop, int(np.searchsorted(ends, used + token_budget, side="right")))
        stop = min(max(stop, start + 1), len(lengths))
        batches.append(slice(start, stop))
        start = stop
    return batches


class BatchSampler(Sampler[IntArray]):
    """Batches of jet indices, a function of seed and epoch, resumable at any batch.

    Parameters
    ----------
    lengths
        Particles of each jet, ``(J,)``.
    batch_size, token_budget
        As of :func:`cut_batches`.
    shuffle
        Whether to shuffle each epoch and drop its incomplete last batch; otherwise jets are sorted
        by length.
    seed
        Shuffle seed.
    rank, world_size
        Rank of this process and number of processes. Each gets an equal part of every training
        batch, and a part of the jets of validation and test.
    """

    def __init__(
        self,
        lengths: IntArray,
        batch_size: int,
        token_budget: int,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or token_budget < 0:
            raise ValueError(
                f"batch_size must be at least 1 and token_budget at least 0, "
                f"not {batch_size} and {token_budget}"
            )
        self.lengths, self.batch_size, self.token_budget = lengths, batch_size, token_budget
        if shuffle and batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} is no multiple of {world_size} processes")
        self.shuffle, self.seed = shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self.start = 0, 0

    def batches(self) -> list[IntArray]:
        """All batches of the current epoch for this rank."""
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.lengths))
        else:
            order = self._by_length()[self.rank :: self.world_size]
        cuts = cut_batches(self.lengths[order], self.batch_size, self.token_budget)
        if self.shuffle and len(cuts) > 1:
            cuts = cuts[:-1]
        batches = [order[cut] for cut in cuts]
        return [b[self.rank :: self.world_size] for b in batches] if self.shuffle else batches

    def _by_length(self) -> IntArray:
        return np.argsort(self.lengths, kind="stable")

    def rows(self) -> IntArray:
        """Numbers of all jets as they come without shuffling, process after process."""
        order = self._by_length()
        return np.concatenate([order[r :: self.world_size] for r in range(self.world_size)])

    def __iter__(self) -> Iterator[IntArray]:
        # Set the next position first: a consumer that stops at the last batch never resumes this
        # generator.
        batches, start = self.batches(), self.start
        self.epoch, self.start = self.epoch + 1, 0
        yield from batches[start:]

    def __len__(self) -> int:
        return len(self.batches())
