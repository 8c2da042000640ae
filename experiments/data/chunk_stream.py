"""Stream batches from data sets that do not fit into memory, shuffled across files.

Files are divided into chunks of jets. In each epoch the chunks of all files are shuffled and
distributed over ranks and workers; a worker reads several chunks at a time, shuffles their jets
together, and divides them into batches. Everything is a function of seed and epoch, so a worker can
start at any batch and skips earlier chunks without reading them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch.utils.data import IterableDataset, get_worker_info

from data.errors import DataError
from data.formats import Format
from data.identity import MANY_FILES
from data.jets import IntArray, Jets, concatenate
from data.reading import Snapshot, reading
from experiments.data.batch import EventBatch
from experiments.data.preparation import Preparation
from experiments.data.raw_batches import RawBatches

_HINT = "or leave out such files by adding data.skip_corrupt=true"
_MAX_CHUNKS_READ = 500  # in search of absent classes


@dataclass(frozen=True)
class Chunk:
    """A range of consecutive jets in a file."""

    file: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


Kind = tuple[tuple[str, ...], frozenset[str], frozenset[str]]
"""Classes, columns of particles, and columns of jets: the same in all files of a split."""


def kind_of(jets: Jets) -> Kind:
    """Classes and columns of a sample."""
    return jets.classes, frozenset(jets.particles), frozenset(jets.jets)


def describe_kind(kind: Kind) -> str:
    """Classes and columns for an error message."""
    classes, *columns = kind
    names = ", ".join(sorted(frozenset().union(*columns))) or "none"
    return f"classes {', '.join(classes)} and columns {names}"


@dataclass(frozen=True)
class Shards:
    """All files of a split, with the number of jets in each.

    Parameters
    ----------
    form
        Module that reads them; see :mod:`data.formats`.
    split
        ``"train"``, ``"val"`` or ``"test"``.
    counts
        Number of jets by file.
    kind
        Classes, columns of particles and columns of jets, of the first readable file.
    snapshots
        Size and time of each file, to notice changes.
    skipped
        Damaged files that were skipped.
    """

    form: Format
    split: str
    counts: dict[Path, int]
    kind: Kind
    snapshots: dict[Path, Snapshot]
    skipped: tuple[Path, ...] = ()

    @classmethod
    def find(cls, form: Format, path: Path, split: str, skip_corrupt: bool) -> Shards:
        """Inspect all files of a split.

        Raises
        ------
        DataError
            If there is no file, or one is damaged and ``skip_corrupt`` is false.
        """
        files = form.files(path, split)
        counts: dict[Path, int] = {}
        snapshots: dict[Path, Snapshot] = {}
        kind: Kind | None = None
        skipped: list[Path] = []
        quiet = len(files) < MANY_FILES
        for file in track(files, f"Looking into {split} files", disable=quiet):
            try:
                with reading(file):
                    snapshots[file] = Snapshot.of(file)
                    count = form.count(file, split)
                    if count and kind is None:
                        kind = kind_of(form.read_file(file, split, 0, 1))
                counts[file] = count
            except DataError as error:
                if not skip_corrupt:
                    raise DataError(f"{error}; {_HINT}") from error
                print(f"skipped: {error}", file=sys.stderr)
                skipped.append(file)
        if kind is None:
            raise DataError(f"{path}: has no jets for {split}")
        return cls(form, split, counts, kind, snapshots, tuple(skipped))

    def __len__(self) -> int:
        return sum(self.counts.values())

    def limited(self, jets: int) -> Shards:
        """Limit the number of jets, taken evenly from all files; 0 for all."""
        if not jets or jets >= len(self):
            return self
        each, more = divmod(jets, len(self.counts))
        shares = {f: min(n, each + (i < more)) for i, (f, n) in enumerate(self.counts.items())}
        return replace(self, counts={file: n for file, n in shares.items() if n})

    def chunks(self, size: int) -> list[Chunk]:
        """Divide all files into chunks of at most ``size`` jets."""
        return [
            Chunk(file, start, min(start + size, count))
            for file, count in self.counts.items()
            for start in range(0, count, size)
        ]

    def read(self, chunk: Chunk) -> Jets:
        """Read and check the jets of a chunk."""
        self.snapshots[chunk.file].check()
        jets = self.form.read_file(chunk.file, self.split, chunk.start, chunk.stop)
        if (found := kind_of(jets)) != self.kind:
            raise DataError(
                f"{chunk.file}: has {describe_kind(found)}, and the first file of {self.split} has "
                f"{describe_kind(self.kind)}"
            )
        return jets


def absent_classes(shards: Shards, chunk_size: int, skip_corrupt: bool) -> list[str]:
    """Names of classes without jets in a split; empty if it is too large to search.

    Each file may hold one class: the first chunk of every file is read before any second one, until
    all classes have been seen.
    """
    classes = shards.kind[0]
    chunks = sorted(shards.chunks(chunk_size), key=lambda chunk: chunk.start)
    seen: set[int] = set()
    for chunk in chunks[:_MAX_CHUNKS_READ]:
        try:
            seen.update(np.unique(shards.read(chunk).labels).tolist())
        except DataError as error:
            if not skip_corrupt:
                raise DataError(f"{error}; {_HINT}") from error
        if len(seen) == len(classes):
            return []
    if len(chunks) > _MAX_CHUNKS_READ:
        return []
    return [name for number, name in enumerate(classes) if number not in seen]


class JetStream(IterableDataset[EventBatch]):
    """An endless stream of batches for training, or one pass over all jets.

    Parameters
    ----------
    shards
        The files.
    prepare
        Makes batches of jets.
    batch_size
        Number of jets in a batch of this rank.
    chunk_size
        Number of jets read at a time.
    mix
        Number of chunks whose jets are shuffled together.
    seed
        Shuffle seed; None for a single pass in order.
    rank, world_size
        Rank of this process, and number of processes.
    skip_corrupt
        Whether to skip damaged chunks.
    """

    def __init__(
        self,
        shards: Shards,
        prepare: Preparation,
        batch_size: int,
        chunk_size: int,
        mix: int,
        seed: int | None,
        rank: int = 0,
        world_size: int = 1,
        skip_corrupt: bool = False,
    ) -> None:
        super().__init__()
        self.shards, self.prepare, self.batch_size = shards, prepare, batch_size
        self.chunks = shards.chunks(chunk_size)
        self.mix, self.seed = mix, seed
        self.rank, self.world_size = rank, world_size
        self.skip_corrupt = skip_corrupt
        self.start = 0
        # Shared with the workers, which count up.
        self.lost_chunks = torch.zeros(1, dtype=torch.int64).share_memory_()

    def _chunks_for_worker(self, epoch: int, worker: int, workers: int) -> list[Chunk]:
        """The chunks that a worker reads in an epoch."""
        place, step = self.rank * workers + worker, self.world_size * workers
        if self.seed is None:
            return self.chunks[place::step]
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.chunks))
        if len(order) < step:
            raise DataError(
                f"{len(order)} chunks for {step} workers of all ranks; "
                "lower data.chunk_size or data.num_workers"
            )
        return [self.chunks[i] for i in order[place::step]]

    def _groups(self, worker: int, workers: int) -> Iterator[tuple[list[int], list[Chunk]]]:
        """Groups of chunks that are shuffled together, each with the numbers that seed it."""
        epoch = 0
        while True:
            own = self._chunks_for_worker(epoch, worker, workers)
            for number, first in enumerate(range(0, len(own), self.mix)):
                yield [epoch, number, worker], own[first : first + self.mix]
            epoch += 1
            if self.seed is None:
                return

    def _read(self, chunks: list[Chunk]) -> Jets | None:
        parts = []
        for chunk in chunks:
            try:
                parts.append(self.shards.read(chunk))
            except DataError as error:
                if not self.skip_corrupt:
                    raise DataError(f"{error}; {_HINT}") from error
                print(f"skipped jets {chunk.start} to {chunk.stop}: {error}", file=sys.stderr)
                self.lost_chunks += 1
        return concatenate(parts, "mixed chunks") if parts else None

    def __iter__(self) -> Iterator[EventBatch]:
        for raw in self.raw():
            yield from self.prepare.finished(RawBatches.joined([raw]))

    def raw(self) -> Iterator[RawBatches]:
        """The same batches before anything is computed of them."""
        info = get_worker_info()
        number, workers = (0, 1) if info is None else (info.id, info.num_workers)
        # The loader takes one batch of each worker in turn, starting with worker 0: after a
        # resumption worker 0 takes the part of the worker whose turn it was.
        worker = (number + self.start) % workers
        before = max(self.start - worker + workers - 1, 0) // workers * self.batch_size
        rest: Jets | None = None
        lost_in_a_row = 0
        for numbers, chunks in self._groups(worker, workers):
            size = sum(map(len, chunks))
            if before >= size:
                before -= size
                continue
            jets = self._read(chunks)
            if jets is None:
                lost_in_a_row += len(chunks)
                if lost_in_a_row >= len(self.chunks):
                    raise DataError(
                        f"{chunks[0].file.parent}: none of the files can be read any more; is the "
                        "disk still there?"
                    )
                continue
            lost_in_a_row = 0
            order = np.arange(len(jets))
            if self.seed is not None:
                # Seeded by position, so that any group can be the first.
                order = np.random.default_rng([self.seed, *numbers, 1]).permutation(len(jets))
            order, before = order[before:], 0
            if rest is not None and len(rest):
                missing = self.batch_size - len(rest)
                rest = concatenate([rest, jets.select(order[:missing])], "mixed chunks")
                order = order[missing:]
                if len(rest) < self.batch_size:
                    continue
                yield self._batch(rest, np.arange(len(rest)))
            whole = len(order) // self.batch_size * self.batch_size
            for first in range(0, whole, self.batch_size):
                yield self._batch(jets, order[first : first + self.batch_size])
            rest = jets.select(order[whole:])
        if rest is not None and len(rest):
            yield self._batch(rest, np.arange(len(rest)))

    def _batch(self, jets: Jets, indices: IntArray) -> RawBatches:
        # The native backend attends to neighbours of equal length in one call.
        indices = indices[np.argsort(jets.lengths[indices], kind="stable")]
        return self.prepare.raw(jets.select(indices))
