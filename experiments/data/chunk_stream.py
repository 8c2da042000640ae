"""Batches from data sets that fit no memory: read file by file, shuffled across files.

Files are cut into chunks of jets. For each pass the chunks of all files are shuffled and dealt to
the ranks and their workers; a worker reads some chunks at a time, shuffles their jets together,
and cuts the stream of jets into batches. All of it follows from seed and pass, so a worker can
start at any batch: it leaves out what lies before, without reading it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data.errors import DataError
from data.formats import Format
from data.jets import IntArray, Jets, concatenate
from data.reading import Snapshot, reading
from experiments.data.batch import EventBatch
from experiments.data.preparation import Preparation
from experiments.data.workers import leave_the_end_to_the_run, own_generator

_ENDLESS = 1 << 40  # batches; lengths are summed over ranks in 64 bits
_HINT = "or leave out such files by data.skip_corrupt=true"
_MAX_LOOKED_INTO = 500  # chunks, before training


@dataclass(frozen=True)
class Chunk:
    """Neighbouring jets of a file."""

    file: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


Kind = tuple[tuple[str, ...], frozenset[str], frozenset[str]]
"""What files that are read together have in common: classes, columns of particles, and of jets."""


def kind_of(jets: Jets) -> Kind:
    """Classes and columns of a sample."""
    return jets.classes, frozenset(jets.particles), frozenset(jets.jets)


def describe_kind(kind: Kind) -> str:
    """Classes and columns in words."""
    classes, *columns = kind
    names = ", ".join(sorted(frozenset().union(*columns))) or "none"
    return f"classes {', '.join(classes)} and columns {names}"


@dataclass(frozen=True)
class Shards:
    """All files of a split, with the number of jets in each.

    Parameters
    ----------
    form
        How they are read; see :mod:`data.formats`.
    split
        ``"train"``, ``"val"`` or ``"test"``.
    counts
        Jets by file.
    kind
        Classes, columns of particles and columns of jets, of the first file that can be read.
    snapshots
        What the files looked like.
    skipped
        Damaged files that were left out.
    """

    form: Format
    split: str
    counts: dict[Path, int]
    kind: Kind
    snapshots: dict[Path, Snapshot]
    skipped: tuple[str, ...] = ()

    @classmethod
    def find(cls, form: Format, path: Path, split: str, skip_corrupt: bool) -> Shards:
        """Look into all files of a split.

        Raises
        ------
        DataError
            If there is no file, or one is damaged and ``skip_corrupt`` is false.
        """
        files = form.files(path, split)
        counts: dict[Path, int] = {}
        snapshots: dict[Path, Snapshot] = {}
        kind: Kind | None = None
        skipped = []
        quiet = len(files) < 50
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
                skipped.append(file.name)
        if kind is None:
            raise DataError(f"{path}: has no jets for {split}")
        return cls(form, split, counts, kind, snapshots, tuple(skipped))

    def __len__(self) -> int:
        return sum(self.counts.values())

    def limited(self, jets: int) -> Shards:
        """At most this many jets, evenly from all files; 0 takes all."""
        if not jets or jets >= len(self):
            return self
        each, more = divmod(jets, len(self.counts))
        shares = {f: min(n, each + (i < more)) for i, (f, n) in enumerate(self.counts.items())}
        return replace(self, counts={file: n for file, n in shares.items() if n})

    def chunks(self, size: int) -> list[Chunk]:
        """All files cut into chunks of at most ``size`` jets."""
        return [
            Chunk(file, start, min(start + size, count))
            for file, count in self.counts.items()
            for start in range(0, count, size)
        ]

    def read(self, chunk: Chunk) -> Jets:
        """The jets of a chunk, checked."""
        self.snapshots[chunk.file].check()
        jets = self.form.read_file(chunk.file, self.split, chunk.start, chunk.stop)
        if (found := kind_of(jets)) != self.kind:
            raise DataError(
                f"{chunk.file}: has {describe_kind(found)}, and the first file of {self.split} has "
                f"{describe_kind(self.kind)}"
            )
        return jets


def absent_classes(shards: Shards, chunk_size: int, skip_corrupt: bool) -> list[str]:
    """Names of the classes that a split has no jets of; empty where it is too large to say.

    Files may hold a class each: the first chunk of every file is read before any second one, and no
    more than it takes to see all classes.
    """
    classes = shards.kind[0]
    chunks = sorted(shards.chunks(chunk_size), key=lambda chunk: chunk.start)
    seen: set[int] = set()
    for chunk in chunks[:_MAX_LOOKED_INTO]:
        try:
            seen.update(np.unique(shards.read(chunk).labels).tolist())
        except DataError as error:
            if not skip_corrupt:
                raise DataError(f"{error}; {_HINT}") from error
        if len(seen) == len(classes):
            return []
    if len(chunks) > _MAX_LOOKED_INTO:
        return []
    return [name for number, name in enumerate(classes) if number not in seen]


class JetStream(IterableDataset[EventBatch]):
    """An endless stream of batches for training, or one pass over all jets.

    Parameters
    ----------
    shards
        The files.
    prepare
        What is kept, changed and computed of the jets.
    batch_size
        Jets of a batch of this rank.
    chunk_size
        Jets read at a time.
    mix
        Chunks whose jets are shuffled together.
    seed
        Of all shuffling; None is one pass in order.
    rank, world_size
        This process among those that train together.
    skip_corrupt
        Whether to leave out chunks that turn out to be damaged.
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

    def _hand(self, epoch: int, worker: int, workers: int) -> list[Chunk]:
        """The chunks of a worker in a pass."""
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
        """Chunks that are mixed, each with the numbers that its shuffling follows from."""
        epoch = 0
        while True:
            hand = self._hand(epoch, worker, workers)
            for number, first in enumerate(range(0, len(hand), self.mix)):
                yield [epoch, number, worker], hand[first : first + self.mix]
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
        info = get_worker_info()
        number, workers = (0, 1) if info is None else (info.id, info.num_workers)
        # The loader takes one batch of each worker in turn, and begins with the first: that one
        # plays the part of whoever is next.
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
                # Drawn by place, not by what was read before: any group can be the first.
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

    def _batch(self, jets: Jets, indices: IntArray) -> EventBatch:
        # Neighbours of equal length are attended to in one call (see the native backend).
        indices = indices[np.argsort(jets.lengths[indices], kind="stable")]
        return self.prepare(jets.select(indices))


class StreamLoader(DataLoader[EventBatch]):
    """A loader of a stream whose place is saved and restored with each checkpoint."""

    def __init__(self, stream: JetStream, num_workers: int) -> None:
        super().__init__(
            stream,
            batch_size=None,
            num_workers=num_workers,
            worker_init_fn=leave_the_end_to_the_run,
            generator=own_generator(),
            pin_memory=torch.cuda.is_available(),
        )
        self.stream = stream
        self._delivered = 0

    def __len__(self) -> int:
        """More batches than anyone takes of an endless stream; a single pass does not know.

        Of loaders without a length Lightning fetches a batch ahead, which a resumed run would
        leave out.
        """
        if self.stream.seed is None:
            raise TypeError("one pass over a stream has no length")
        return _ENDLESS

    def __iter__(self) -> Any:
        self._delivered = self.stream.start
        for batch in super().__iter__():
            self._delivered += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches handed out since the start of training."""
        return {"position": self._delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.stream.start = state["position"]
