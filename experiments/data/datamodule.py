"""Data module of jets that fit into memory."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import lightning
import torch

from data.errors import DataError, listed
from data.formats import read_jets
from data.identity import digest_of_jets
from data.jets import FloatArray, Jets
from experiments.data.balance import Balance
from experiments.data.batch import DataSpec, absent_classes
from experiments.data.feeding import CPU
from experiments.data.loader import JetDataset, ResumableLoader
from experiments.data.preparation import Augmentation, Feature, Preparation
from experiments.data.resident import ResidentJets, should_reside
from experiments.data.sampler import BatchSampler
from experiments.options.markers import Count, Limit, Range, Seed, Text

Workers = Annotated[int, Range(0, 1024)]


def ranks(module: lightning.LightningDataModule) -> tuple[int, int]:
    """Rank of this process, and the number of processes."""
    trainer = module.trainer
    return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)


def preparing_device(module: lightning.LightningDataModule) -> torch.device:
    """Where features are computed: on the GPU of the training, else on the CPU."""
    if module.trainer is None:
        return CPU
    device: torch.device = module.trainer.strategy.root_device
    return device if device.type == "cuda" else CPU


def default_workers(num_workers: int | None) -> int:
    """Number of worker processes; by default 4 with a GPU, else 0: training needs the cores."""
    if num_workers is not None:
        return num_workers
    return 4 if torch.cuda.is_available() else 0


def column_of(jets: Jets, name: str) -> FloatArray:
    """A column of jets, ``(J,)``.

    Raises
    ------
    DataError
        If there is none.
    """
    if name not in jets.jets:
        raise DataError(
            f"{jets.source}: its jets have no column {name}; they have {listed(jets.jets)}"
        )
    return jets.jets[name]


class JetData(lightning.LightningDataModule):
    """Jets of two or more classes, from files that fit into memory or are memory-mapped.

    Parameters
    ----------
    path
        A jet file of a known format, or a folder with ``train``, ``val`` and ``test`` files.
    batch_size, token_budget
        Maximum numbers of jets and of particles in a training batch; 0 particles for no limit.
    eval_token_budget
        Maximum number of particles in a batch of validation and test.
    features, max_constituents, augmentations
        As of :class:`~experiments.data.preparation.Preparation`; only training jets are augmented.
    limit
        Maximum number of training jets; 0 for all.
    num_workers
        Processes that read batches of jets that are not resident; None chooses by
        :func:`default_workers`.
    seed
        Shuffle seed.
    smallest_component
        Drop particles with any momentum component of at most this many GeV, as the code of several
        papers does; 0 keeps all.
    eval_limit
        Maximum number of validation and of test jets; 0 for all.
    balance
        How jets of training and validation are weighted; None leaves them their own weights, if
        they have any.
    event_columns
        Columns of jets that batches carry along, for ``task=several_targets``.
    resident
        Whether all jets are kept in the memory of the training device, where batches are gathered;
        None chooses by :func:`~experiments.data.resident.should_reside`. Batches are the same.
    """

    def __init__(
        self,
        path: Text,
        batch_size: Count,
        token_budget: Limit,
        eval_token_budget: Count,
        features: Sequence[Feature],
        max_constituents: Limit,
        augmentations: Sequence[Augmentation],
        limit: Limit,
        num_workers: Workers | None,
        seed: Seed,
        smallest_component: Annotated[float, Range(0)] = 0.0,
        eval_limit: Limit = 0,
        resident: bool | None = None,
        balance: Balance | None = None,
        event_columns: Sequence[Text] = (),
    ) -> None:
        super().__init__()
        self.path, self.smallest_component = path, smallest_component
        self.limits = {"train": limit, "val": eval_limit, "test": eval_limit}
        self.batch_size, self.token_budget = batch_size, token_budget
        self.eval_token_budget = eval_token_budget
        columns = tuple(event_columns)
        self.prepare = Preparation(features, max_constituents, augmentations, seed, columns)
        self.num_workers, self.seed = default_workers(num_workers), seed
        self.resident, self._asked_workers = resident, num_workers
        self.balance = balance
        self._splits: dict[str, JetDataset] = {}
        self._residents: dict[str, ResidentJets] = {}

    @property
    def spec(self) -> DataSpec:
        """What a model needs to know; available after :meth:`setup`."""
        classes = next(iter(self._splits.values())).jets.classes
        return DataSpec(len(self.prepare.features), classes)

    def setup(self, stage: str | None = None) -> None:
        """Read and check the splits of a stage, so that bad files are found before training."""
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for split, limit in self.limits.items():
            if split not in self._splits and split in wanted.get(stage or "", self.limits):
                jets = read_jets(self.path, split, limit or None)
                if self.smallest_component:
                    particles = len(jets.constituents)
                    jets = jets.without_small_components(self.smallest_component)
                    # Every jet keeps a particle, however small.
                    if len(jets.constituents) == len(jets) < particles:
                        raise DataError(
                            f"data.smallest_component={self.smallest_component}: leaves one "
                            f"particle in each jet of {self.path}; lower it"
                        )
                self._splits[split] = self._dataset(split, jets)
        if len(found := {dataset.jets.classes for dataset in self._splits.values()}) > 1:
            names = "; ".join(", ".join(classes) for classes in sorted(found))
            raise DataError(f"{self.path}: its splits have different classes: {names}")

    def _dataset(self, split: str, jets: Jets) -> JetDataset:
        """A split; training comes first, whose spectra count."""
        if split == "train" and self.balance is not None and self.balance.is_wanted:
            self.prepare = replace(self.prepare, weights=self.balance.fit(jets))
        return JetDataset(jets, self._prepare(split, jets).without_augmentations())

    def _prepare(self, split: str, jets: Jets) -> Preparation:
        return self.prepare.for_split(split, jets.jets)

    def column_of_training(self, name: str) -> FloatArray:
        """A column of all training jets, ``(J,)``."""
        return column_of(self._splits["train"].jets, name)

    def absent_classes(self, split: str) -> list[str]:
        """Names of the classes that a split has no jets of."""
        jets = self._splits[split].jets
        return absent_classes(torch.from_numpy(jets.labels), tuple(jets.classes))

    def num_jets(self) -> dict[str, int]:
        """Jets in each split."""
        return {split: len(dataset) for split, dataset in self._splits.items()}

    def identity(self, noted: Mapping[str, str]) -> dict[str, str]:
        """A digest of the jets of each split, to notice if a run goes on with others."""
        return {split: digest_of_jets(dataset.jets) for split, dataset in self._splits.items()}

    def _resident(self, split: str, device: torch.device) -> ResidentJets | None:
        """A split in the memory of a device, or None if it is not kept there."""
        kept = self._residents.get(split)
        if kept is not None and kept.device == device:
            return kept
        wanted = self.resident
        if wanted is None:
            samples = ((dataset.jets, dataset.prepare) for dataset in self._splits.values())
            wanted = should_reside(samples, device, self._asked_workers)
        if not wanted:
            return None
        try:
            dataset = self._splits[split]
            kept = ResidentJets(dataset.jets, dataset.prepare, device)
        except torch.OutOfMemoryError as error:
            text = f"the jets for {split} do not fit into the memory of {device}"
            if self.resident:
                raise DataError(f"data.resident=true: {text}; leave it out") from error
            warnings.warn(f"{text}, so that they are read batch by batch", stacklevel=2)
            return None
        self._residents[split] = kept
        return kept

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled batches."""
        jets = self._splits["train"].jets
        dataset = JetDataset(jets, self._prepare("train", jets))
        sampler = BatchSampler(
            dataset.lengths, self.batch_size, self.token_budget, True, self.seed, *ranks(self)
        )
        device = preparing_device(self)
        resident = self._resident("train", device)
        return ResumableLoader(dataset, sampler, self.num_workers, device, resident)

    def train_pass(self) -> ResumableLoader:
        """All training jets once, sorted by length, on the CPU."""
        return self._eval_loader("train", CPU)

    def _by_length(self, split: str) -> BatchSampler:
        budget = self.eval_token_budget
        lengths = self._splits[split].lengths
        return BatchSampler(lengths, budget, budget, False, self.seed, *ranks(self))

    def test_rows(self) -> torch.Tensor:
        """Which test jet each is that :meth:`test_dataloader` brings, ``(J,)``, by process."""
        return torch.from_numpy(self._by_length("test").rows())

    def _eval_loader(self, split: str, device: torch.device) -> ResumableLoader:
        dataset, sampler = self._splits[split], self._by_length(split)
        resident = self._resident(split, device)
        return ResumableLoader(dataset, sampler, 0, device, resident)

    def val_dataloader(self) -> ResumableLoader:
        """All validation jets, sorted by length."""
        return self._eval_loader("val", preparing_device(self))

    def test_dataloader(self) -> ResumableLoader:
        """All test jets, sorted by length."""
        return self._eval_loader("test", preparing_device(self))
