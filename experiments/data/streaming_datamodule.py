"""Data module of data sets in many files, which are read during training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import lightning
from rich.progress import track

from data.errors import DataError
from data.formats import find_format
from data.identity import DAMAGED, digests_of_files
from data.jets import FloatArray, Jets, concatenate
from experiments.data.balance import Balance
from experiments.data.batch import DataSpec
from experiments.data.chunk_stream import JetStream, Shards, absent_classes
from experiments.data.datamodule import (
    Workers,
    column_of,
    default_workers,
    preparing_device,
    ranks,
)
from experiments.data.preparation import Augmentation, Feature, Preparation
from experiments.data.stream_loader import StreamLoader
from experiments.options.markers import Count, Limit, Seed, Text

JETS_FOR_SPECTRA = 200_000


class StreamedData(lightning.LightningDataModule):
    """Jets from a folder, in any format that has many files.

    Parameters
    ----------
    path
        The folder.
    batch_size
        Number of jets in a training batch, over all processes.
    eval_batch_size
        Number of jets in a batch of validation and test.
    features, max_constituents, augmentations
        As of :class:`~experiments.data.preparation.Preparation`; only training jets are augmented.
    limit, eval_limit
        Maximum numbers of jets of training, and of validation and test each; 0 for all.
    chunk_size, mix
        Number of jets read at a time, and of such chunks that are shuffled together.
    num_workers
        Processes that read; None chooses by
        :func:`~experiments.data.datamodule.default_workers`.
    skip_corrupt
        Whether damaged files are skipped and counted, instead of ending the run.
    seed
        Shuffle seed.
    balance, event_columns
        As of :class:`~experiments.data.datamodule.JetData`; spectra are those of
        :data:`JETS_FOR_SPECTRA` jets, taken evenly from all files.
    """

    order_depends_on_readers = True
    """Whether the number of processes that read changes the order of training jets."""

    def __init__(
        self,
        path: Text,
        batch_size: Count,
        eval_batch_size: Count,
        features: Sequence[Feature],
        max_constituents: Limit,
        augmentations: Sequence[Augmentation],
        limit: Limit,
        eval_limit: Limit,
        chunk_size: Count,
        mix: Count,
        num_workers: Workers | None,
        skip_corrupt: bool,
        seed: Seed,
        balance: Balance | None = None,
        event_columns: Sequence[Text] = (),
    ) -> None:
        super().__init__()
        self.path, self.seed = Path(path), seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        columns = tuple(event_columns)
        self.prepare = Preparation(features, max_constituents, augmentations, seed, columns)
        self.limits = {"train": limit, "val": eval_limit, "test": eval_limit}
        self.chunk_size, self.mix = chunk_size, mix
        self.num_workers, self.skip_corrupt = default_workers(num_workers), skip_corrupt
        self.balance = balance
        self._shards: dict[str, Shards] = {}
        self._streams: list[JetStream] = []
        self._classes: tuple[str, ...] = ()

    @property
    def spec(self) -> DataSpec:
        """What a model needs to know; available after :meth:`setup`."""
        return DataSpec(len(self.prepare.features), self._classes)

    def setup(self, stage: str | None = None) -> None:
        """Inspect all files, so that a missing or damaged one is found before training."""
        if self._shards:
            return
        form = find_format(self.path)
        if not form.has_files:
            raise DataError(f"{self.path}: comes in one file; use data=toptagging for it")
        for split, limit in self.limits.items():
            shards = Shards.find(form, self.path, split, self.skip_corrupt)
            self._shards[split] = shards.limited(limit)
        self._classes = self._shards["train"].kind[0]
        for split, shards in self._shards.items():
            if shards.kind[0] != self._classes:
                raise DataError(
                    f"{self.path}: classes of {split} are {', '.join(shards.kind[0])}, those of "
                    f"train {', '.join(self._classes)}"
                )
        if self.balance is not None and self.balance.is_wanted:
            weights = self.balance.fit(self._some_training_jets())
            self.prepare = replace(self.prepare, weights=weights)

    def _some_training_jets(self) -> Jets:
        shards = self._shards["train"].limited(JETS_FOR_SPECTRA)
        chunks = track(shards.chunks(self.chunk_size), "Reading spectra", transient=True)
        return concatenate([shards.read(chunk) for chunk in chunks], str(self.path))

    def column_of_training(self, name: str) -> FloatArray:
        """A column of :data:`JETS_FOR_SPECTRA` training jets, ``(J,)``."""
        return column_of(self._some_training_jets(), name)

    def num_jets(self) -> dict[str, int]:
        """Jets in each split."""
        return {split: len(shards) for split, shards in self._shards.items()}

    def absent_classes(self, split: str) -> list[str]:
        """Names of the classes that a split has no jets of, if it is small enough to search."""
        return absent_classes(self._shards[split], self.chunk_size, self.skip_corrupt)

    def identity(self, noted: Mapping[str, str]) -> dict[str, str]:
        """A digest of each file, to notice if a run goes on with others.

        ``noted`` are those of before; see :func:`~data.identity.digests_of_files`.
        """
        files = dict.fromkeys(file for shards in self._shards.values() for file in shards.counts)
        found = digests_of_files(list(files), self.path, noted)
        skipped = (file for shards in self._shards.values() for file in shards.skipped)
        return found | {os.path.relpath(file, self.path): DAMAGED for file in skipped}

    def skipped(self) -> dict[str, int]:
        """Numbers of damaged files and of damaged chunks that were skipped."""
        files = sum(len(shards.skipped) for shards in self._shards.values())
        return {"files": files, "parts": sum(int(s.lost_chunks) for s in self._streams)}

    def _stream(self, split: str, batch_size: int, seed: int | None) -> JetStream:
        rank, world_size = ranks(self)
        if seed is not None and batch_size % world_size:
            raise DataError(f"batch_size {batch_size} is no multiple of {world_size} processes")
        each = batch_size // world_size if seed is not None else batch_size
        prepare = self.prepare.for_split(split, self._shards[split].kind[2])
        prepare = prepare if seed is not None else prepare.without_augmentations()
        stream = JetStream(
            self._shards[split], prepare, each, self.chunk_size, self.mix, seed, rank, world_size,
            self.skip_corrupt,
        )  # fmt: skip
        self._streams.append(stream)
        return stream

    def train_dataloader(self) -> StreamLoader:
        """An endless stream of shuffled batches."""
        stream = self._stream("train", self.batch_size, self.seed)
        return StreamLoader(stream, self.num_workers, preparing_device(self))

    def train_pass(self) -> StreamLoader:
        """All training jets once, in order, on the CPU."""
        return StreamLoader(self._stream("train", self.eval_batch_size, None), 0)

    def _eval_loader(self, split: str) -> StreamLoader:
        stream = self._stream(split, self.eval_batch_size, None)
        return StreamLoader(stream, 0, preparing_device(self))

    def val_dataloader(self) -> StreamLoader:
        """One pass over the validation jets."""
        return self._eval_loader("val")

    def test_dataloader(self) -> StreamLoader:
        """One pass over the test jets."""
        return self._eval_loader("test")
