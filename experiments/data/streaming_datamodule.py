"""Data sets of many files for Lightning, read while training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning

from data.errors import DataError
from data.formats import find_format
from experiments.data.batch import DataSpec
from experiments.data.chunk_stream import JetStream, Shards, StreamLoader, absent_classes
from experiments.data.datamodule import Workers, default_workers, ranks
from experiments.data.preparation import Augmentation, Feature, Preparation
from experiments.options.markers import Count, Limit, Seed, Text


class StreamedData(lightning.LightningDataModule):
    """Jets from a folder of files in any format that comes in many files.

    Parameters
    ----------
    path
        The folder.
    batch_size
        Jets of a training batch, of all processes together.
    eval_batch_size
        Jets of a batch for validation and test.
    features, max_constituents, augmentations
        See :class:`~experiments.data.preparation.Preparation`; augmentations change only jets
        of training.
    limit, eval_limit
        Use at most this many jets of training, and of validation and test each; 0 uses all.
    chunk_size, mix
        Jets read at a time, and how many such chunks are shuffled together.
    num_workers
        Processes that read; see :func:`~experiments.data.datamodule.default_workers`.
    skip_corrupt
        Whether damaged files are left out and counted, instead of ending the run.
    seed
        Of the shuffling.
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
    ) -> None:
        super().__init__()
        self.path, self.seed = Path(path), seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.prepare = Preparation(features, max_constituents, augmentations, seed)
        self.limits = {"train": limit, "val": eval_limit, "test": eval_limit}
        self.chunk_size, self.mix = chunk_size, mix
        self.num_workers, self.skip_corrupt = default_workers(num_workers), skip_corrupt
        self._shards: dict[str, Shards] = {}
        self._streams: list[JetStream] = []
        self._classes: tuple[str, ...] = ()

    @property
    def spec(self) -> DataSpec:
        """What a model must know; after :meth:`setup`."""
        return DataSpec(len(self.prepare.features), self._classes)

    def setup(self, stage: str | None = None) -> None:
        """Find all files, so that a missing or damaged one shows before training, not after."""
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

    def num_jets(self) -> dict[str, int]:
        """Jets in each split."""
        return {split: len(shards) for split, shards in self._shards.items()}

    def absent_classes(self, split: str) -> list[str]:
        """Names of the classes that a split has no jets of, as far as it takes no long search."""
        return absent_classes(self._shards[split], self.chunk_size, self.skip_corrupt)

    def skipped(self) -> dict[str, int]:
        """Damaged files, and damaged parts of files, that were left out."""
        files = sum(len(shards.skipped) for shards in self._shards.values())
        return {"files": files, "parts": sum(int(s.lost_chunks) for s in self._streams)}

    def _stream(self, split: str, batch_size: int, seed: int | None) -> JetStream:
        rank, world_size = ranks(self)
        if seed is not None and batch_size % world_size:
            raise DataError(f"batch_size {batch_size} is no multiple of {world_size} processes")
        each = batch_size // world_size if seed is not None else batch_size
        prepare = self.prepare if seed is not None else self.prepare.unchanged()
        stream = JetStream(
            self._shards[split], prepare, each, self.chunk_size, self.mix, seed, rank, world_size,
            self.skip_corrupt,
        )  # fmt: skip
        self._streams.append(stream)
        return stream

    def train_dataloader(self) -> StreamLoader:
        """An endless stream of shuffled batches."""
        return StreamLoader(self._stream("train", self.batch_size, self.seed), self.num_workers)

    def train_pass(self) -> StreamLoader:
        """All training jets once, in order."""
        return StreamLoader(self._stream("train", self.eval_batch_size, None), 0)

    def val_dataloader(self) -> StreamLoader:
        """One pass over the validation jets."""
        return StreamLoader(self._stream("val", self.eval_batch_size, None), 0)

    def test_dataloader(self) -> StreamLoader:
        """One pass over the test jets."""
        return StreamLoader(self._stream("test", self.eval_batch_size, None), 0)
