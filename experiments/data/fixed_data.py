"""What data modules share whose events lie in memory and have equally many particles."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

import lightning
import numpy as np

from data.errors import DataError
from data.rows import Rows, are_rows
from experiments.data.batch import DataSpec
from experiments.data.datamodule import preparing_device, ranks
from experiments.data.fixed_loader import FixedEvents, FixedLoader
from experiments.data.sampler import BatchSampler
from experiments.errors import UserError

SPLITS = ("train", "val", "test")
_DIGITS = 16


def bounds_of_shares(shares: Iterable[float]) -> dict[str, tuple[float, float]]:
    """Where each split of rows begins and ends, from 0 to 1.

    Raises
    ------
    UserError
        If these are no three shares whose sum is 1 or less.
    """
    given = [float(share) for share in shares]
    if len(given) != len(SPLITS) or sum(given) > 1 + 1e-6:
        raise UserError(
            f"data.shares={given}: three shares are wanted, of training, validation and test, "
            "whose sum is 1 or less"
        )
    edges = np.cumsum([0.0, *given]).tolist()
    return dict(zip(SPLITS, zip(edges, edges[1:], strict=False), strict=True))


def rows_of(
    path: Path, split: str, bounds: Mapping[str, tuple[float, float]], limit: int, count: int
) -> slice:
    """The rows of a split of a file without splits; at most ``limit`` if that is not 0.

    Raises
    ------
    DataError
        If there are none.
    """
    first, last = (round(share * count) for share in bounds[split])
    if limit:
        last = min(last, first + limit)
    if first >= last:
        raise DataError(
            f"{path}: its {count} rows leave none for {split}; give more rows, or other data.shares"
        )
    return slice(first, last)


def rows_given(
    path: str | None, table: str | None, description: Mapping[str, object]
) -> Rows | None:
    """Where the rows of numbers are, if the data are such; None if they describe themselves.

    Parameters
    ----------
    path, table
        As in :class:`data.rows.Rows`.
    description
        Options that tell what is in a row.

    Raises
    ------
    UserError
        If rows are not described, or other data are.
    """
    if path is not None and are_rows(Path(path), table):
        if missing := [f"data.{name}" for name, value in description.items() if value is None]:
            raise UserError(
                f"{path}: rows of numbers do not tell what is in them; give {', '.join(missing)}"
            )
        return Rows(Path(path), table)
    for name, value in {"table": table, **description}.items():
        if value is not None:
            raise UserError(
                f"data.{name}: describes rows of numbers (.npy), and these data tell it "
                "themselves; leave it out"
            )
    return None


class FixedData(lightning.LightningDataModule):
    """Base of such data modules.

    Parameters
    ----------
    batch_size, eval_batch_size
        Events in a batch.
    seed
        Shuffle seed.
    """

    spec: DataSpec

    def __init__(self, batch_size: int, eval_batch_size: int, seed: int) -> None:
        super().__init__()
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.events: dict[str, FixedEvents] = {}
        self._arrays: dict[str, tuple[str, list[np.ndarray]]] = {}

    @abstractmethod
    def load(self, split: str) -> tuple[FixedEvents, str, list[np.ndarray]]:
        """Read or generate a split.

        Returns
        -------
        events
            As batches hold them.
        described, arrays
            What makes the sample what it is, to notice if it changes: text, and numbers.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load the splits of a stage."""
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for split in wanted.get(stage or "", SPLITS):
            if split not in self.events:
                self.events[split], described, arrays = self.load(split)
                self._arrays[split] = described, arrays
        if len({described for described, _ in self._arrays.values()}) > 1:
            raise DataError(f"{getattr(self, 'path', '')}: its splits have different particles")

    def num_jets(self) -> dict[str, int]:
        """Events in each split."""
        return {split: len(events) for split, events in self.events.items()}

    def identity(self, noted: Mapping[str, str]) -> dict[str, str]:
        """A digest of the events of each split, to notice if a run goes on with others."""
        found = {}
        for split, (described, arrays) in self._arrays.items():
            digest = hashlib.sha256(described.encode())
            for values in arrays:
                digest.update(np.ascontiguousarray(values).data)
            found[split] = digest.hexdigest()[:_DIGITS]
        return found

    def _loader(self, split: str, batch_size: int, shuffle: bool) -> FixedLoader:
        events = self.events[split] = self.events[split].to(preparing_device(self))
        lengths = np.full(len(events), events.fourmomenta.shape[1])
        sampler = BatchSampler(lengths, batch_size, 0, shuffle, self.seed, *ranks(self))
        return FixedLoader(events, sampler)

    def train_dataloader(self) -> FixedLoader:
        """Shuffled batches."""
        return self._loader("train", self.batch_size, True)

    def val_dataloader(self) -> FixedLoader:
        """All events of validation."""
        return self._loader("val", self.eval_batch_size, False)

    def test_dataloader(self) -> FixedLoader:
        """All events of the test."""
        return self._loader("test", self.eval_batch_size, False)
