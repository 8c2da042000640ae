"""Batches gathered on a device are those that are read from memory, in the same order."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data.errors import DataError
from data.jets import Jets
from experiments.cli import ROOT
from experiments.data import resident as residence
from experiments.data.datamodule import JetData, preparing_device
from experiments.data.feeding import CPU, Feed
from experiments.data.loader import JetDataset, ResumableLoader
from experiments.data.preparation import Preparation
from experiments.data.raw_batches import MOST_PARTICLES, RawBatches, in_groups
from experiments.data.resident import ResidentJets, bytes_needed, should_reside
from experiments.data.sampler import BatchSampler
from support.slow import slow_but_for

PREPARATIONS = {
    "plain": Preparation(),
    "augmented": Preparation(
        ["kinematics"], 0, ["rotation_about_jet", "mirror", "boost_along_beam"], seed=5
    ),
    "cut": Preparation(["kinematics"], 7, ["mirror"], seed=5),
    "columns": Preparation(["kinematics", "charge", "d0"], 7, ["rotation_about_beam"], seed=5),
}
GPU = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
)


@pytest.fixture
def deterministic():
    """As trainings are: sums on a GPU are otherwise rounded anew each time."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def jets() -> Jets:
    """203 jets whose particles are in no order of pT."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 203)
    momenta = rng.normal(0, 30, (lengths.sum(), 4)).astype(np.float32)
    momenta[:, 0] = np.sqrt((momenta[:, 1:] ** 2).sum(1) + 1)
    columns = {name: rng.normal(size=len(momenta)).astype(np.float32) for name in ("charge", "d0")}
    return Jets(momenta, np.cumsum([0, *lengths]), np.arange(203) % 2, "test", particles=columns)


def sampler(jets, prepare, shuffle=True, rank=0, world_size=1, budget=0):
    lengths = JetDataset(jets, prepare).lengths
    return BatchSampler(lengths, 8, budget, shuffle, 3, rank, world_size)


def loader(jets, prepare, resident, workers=0, device=CPU, **options):
    kept = ResidentJets(jets, prepare, device) if resident else None
    dataset = JetDataset(jets, prepare)
    return ResumableLoader(dataset, sampler(jets, prepare, **options), workers, device, kept)


def same(ours, theirs):
    return (
        torch.equal(ours.fourmomenta, theirs.fourmomenta)
        and torch.equal(ours.scalars, theirs.scalars)
        and torch.equal(ours.target, theirs.target)
        and torch.equal(ours.packing.ptr, theirs.packing.ptr)
        and ours.packing == theirs.packing
    )


ORDERS = [{}, {"shuffle": False, "budget": 100}, {"rank": 1, "world_size": 2}]


@pytest.mark.parametrize("name", PREPARATIONS)
@pytest.mark.parametrize("options", slow_but_for(ORDERS[2:], ORDERS), ids=str)
def test_the_batches_of_one_call_each(jets, name, options):
    """The way of a batch alone: read, cut, augmented, with features."""
    prepare = PREPARATIONS[name]
    dataset = JetDataset(jets, prepare)
    batches = sampler(jets, prepare, **options)
    expected = [dataset[numbers] for _ in range(2) for numbers in batches]
    for resident, workers in ((True, 0), (False, 0), (False, 2), (True, 2)):
        ours = loader(jets, prepare, resident, workers, **options)
        found = [batch for _ in range(2) for batch in ours]
        assert len(found) == len(expected)
        assert all(map(same, found, expected))


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("name", PREPARATIONS)
def test_batches_that_are_prepared_together(jets, name, device, deterministic):
    prepare, place = PREPARATIONS[name], torch.device(device)
    numbers = list(islice(iter(sampler(jets, prepare)), 9))
    kept = ResidentJets(jets, prepare, place)
    together = prepare.finished(kept.gathered(numbers, prepare))
    parts = [prepare.raw(jets.select(n)).to(place) for n in numbers]
    moved = prepare.finished(RawBatches.joined(parts))
    for ours, also, n in zip(together, moved, numbers, strict=True):
        alone = prepare.finished(RawBatches.joined([prepare.raw(jets.select(n)).to(place)]))[0]
        assert same(ours, also)
        assert ours.packing == alone.packing and torch.equal(ours.target, alone.target)
        torch.testing.assert_close(ours.fourmomenta, alone.fourmomenta, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours.scalars, alone.scalars, rtol=1e-5, atol=1e-5)
        for tensor in (ours.fourmomenta, ours.scalars, ours.target):
            assert tensor.storage_offset() == 0, "products differ with the place in memory"
        if device == "cuda":
            assert same(ours, alone), "the last bit depends on the neighbours"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", PREPARATIONS)
def test_a_gpu_is_never_waited_for(jets, name, deterministic):
    prepare, device = PREPARATIONS[name], torch.device("cuda")
    expected = list(loader(jets, prepare, resident=False))
    for resident, workers in ((True, 0), (False, 0)):
        ours = loader(jets, prepare, resident, workers, device)
        list(islice(iter(ours), 3))
        torch.cuda.set_sync_debug_mode("error")
        try:
            ours.batches.epoch = ours.batches.start = 0
            found = list(ours)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for batch, other in zip(found, expected, strict=True):
            assert batch.fourmomenta.is_cuda and batch.packing == other.packing
            torch.testing.assert_close(batch.fourmomenta.cpu(), other.fourmomenta)
            torch.testing.assert_close(batch.scalars.cpu(), other.scalars, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stop", [1, 7, 25])
@pytest.mark.parametrize("resident", [True, False])
def test_goes_on_at_the_exact_batch(jets, resident, stop):
    """Also where the sample lies elsewhere after the interruption."""
    prepare = PREPARATIONS["augmented"]
    reference = loader(jets, prepare, resident)
    expected = [batch for _ in range(2) for batch in reference]
    stopped = loader(jets, prepare, resident)
    seen = list(islice(iter(stopped), stop))
    resumed = loader(jets, prepare, not resident)
    resumed.load_state_dict(stopped.state_dict())
    seen += [batch for _ in range(2) for batch in resumed]
    assert all(same(a, b) for a, b in zip(seen, expected, strict=False))


def test_time_of_waiting(jets):
    ours = loader(jets, PREPARATIONS["augmented"], resident=True)
    assert ours.feed.waited == 0.0
    list(ours)
    assert ours.feed.waited > 0.0


def test_no_jet_of_that_number(jets):
    prepare = PREPARATIONS["plain"]
    kept = ResidentJets(jets, prepare, CPU)
    for wrong in (-1, len(jets)):
        with pytest.raises(IndexError, match="are wanted of 203"):
            kept.gathered([np.array([0, wrong])], prepare)


class TestGroups:
    def test_grow_and_keep_the_order(self):
        found = list(in_groups(range(50), lambda item: 1, 16))
        assert [len(group) for group in found] == [1, 2, 4, 8, 16, 16, 3]
        assert [item for group in found for item in group] == list(range(50))

    def test_are_limited_by_particles(self):
        sizes = [MOST_PARTICLES // 3] * 9 + [10 * MOST_PARTICLES, 1, 1]
        found = list(in_groups(sizes, lambda size: size, 16))
        assert [item for group in found for item in group] == sizes
        assert all(sum(group) <= MOST_PARTICLES or len(group) == 1 for group in found)

    def test_of_one_on_a_cpu(self):
        """Where the last bit of a number depends on its place in the array."""
        feed = Feed(Preparation(), CPU, 4)
        assert feed.most == feed.most_moved == 1
        feed = Feed(Preparation(), torch.device("cuda"), 4)
        assert feed.most == 16 and feed.most_moved == 8
        assert Feed(Preparation(), torch.device("cuda"), 0).most_moved == 1


class TestPlace:
    CUDA = torch.device("cuda")

    @staticmethod
    def mapped(jets):
        momenta = jets.constituents.copy()
        momenta.flags.writeable = False
        return replace(jets, constituents=momenta)

    def test_on_a_gpu_up_to_a_share_of_its_memory(self, jets, monkeypatch):
        prepare = PREPARATIONS["columns"]
        needed = bytes_needed(jets, prepare)
        assert needed == len(jets.constituents) * (4 + 2) * 4 + 203 * 8
        for free, fits in ((4 * needed, True), (4 * needed - 4, False)):
            monkeypatch.setattr(residence, "free_bytes", lambda device, free=free: free)
            assert should_reside([(jets, prepare)], self.CUDA, 4) is fits
            assert should_reside([(jets, prepare)] * 2, self.CUDA, None) is False

    def test_on_a_cpu(self, jets, monkeypatch):
        monkeypatch.setattr(residence, "free_bytes", lambda device: 1 << 40)
        prepare = Preparation()
        assert should_reside([(jets, prepare)], CPU, None)
        assert should_reside([(jets, prepare)], CPU, 0)
        assert not should_reside([(jets, prepare)], CPU, 2), "processes were asked for"
        mapped = self.mapped(jets)
        assert not should_reside([(jets, prepare), (mapped, prepare)], CPU, None)

    def test_free_memory(self):
        assert residence.free_bytes(CPU) > 1 << 20

    def test_no_copy_on_a_cpu(self, jets):
        kept = ResidentJets(jets, Preparation(), CPU)
        assert kept.fourmomenta.data_ptr() == jets.constituents.ctypes.data
        assert ResidentJets(jets, Preparation(), CPU).columns.numel() == 0

    def test_memory_that_cannot_be_written(self, jets):
        """As a file is mapped; torch would warn."""
        kept = ResidentJets(self.mapped(jets), Preparation(), CPU)
        assert np.array_equal(kept.fourmomenta.numpy(), jets.constituents)


def module(resident, features=("log_pt",), workers=None):
    found = JetData(
        str(ROOT / "data/toptagging_mini.h5"), 16, 0, 2000, features, 40, ["mirror"], 100,
        workers, 1, eval_limit=64, resident=resident,
    )  # fmt: skip
    found.setup()
    return found


class TestDataModule:
    @pytest.mark.parametrize("pass_of", ["train_dataloader", "val_dataloader", "test_dataloader"])
    def test_gives_the_same_batches_from_everywhere(self, pass_of):
        loaders = [getattr(module(resident), pass_of)() for resident in (True, False, None)]
        assert [found.resident is None for found in loaders] == [False, True, False]
        first, *others = [list(found) for found in loaders]
        for other in others:
            assert len(other) == len(first) and all(map(same, other, first))

    def test_uploads_once(self):
        data = module(True)
        assert data.val_dataloader().resident is data.val_dataloader().resident
        assert data.train_dataloader().resident is data.train_pass().resident

    def test_too_little_memory(self, monkeypatch):
        def refuse(*_):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr("experiments.data.datamodule.ResidentJets", refuse)
        with pytest.raises(DataError, match="data.resident=true: the jets for train do not fit"):
            module(True).train_dataloader()
        with pytest.warns(UserWarning, match="read batch by batch"):
            found = module(None).train_dataloader()
        assert found.resident is None and len(list(found)) == 6

    def test_features_are_computed_where_training_runs(self):
        data = module(None)
        assert preparing_device(data) == CPU
        for kind, where in (("cuda", "cuda"), ("mps", "cpu"), ("cpu", "cpu")):
            strategy = SimpleNamespace(root_device=torch.device(kind))
            data.trainer = SimpleNamespace(strategy=strategy)
            assert preparing_device(data).type == where
