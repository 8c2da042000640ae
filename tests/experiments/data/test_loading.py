"""Batches, and a loader that goes on where it stopped."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from itertools import islice

import numpy as np
import pytest
import torch

from data.columns import PARTICLES
from data.jets import Jets
from experiments.data.datamodule import JetData
from experiments.data.features import (
    FEATURES,
    SETS,
    columns_of,
    compute_features,
    feature_names,
)
from experiments.data.loader import JetDataset, ResumableLoader
from experiments.data.preparation import Preparation
from experiments.data.sampler import BatchSampler, cut_batches
from lgatr import Packing


@pytest.fixture
def jets() -> Jets:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 101)
    momenta = rng.normal(0, 30, (lengths.sum(), 4)).astype(np.float32)
    momenta[:, 0] = np.sqrt((momenta[:, 1:] ** 2).sum(1) + 1)
    return Jets(momenta, np.cumsum([0, *lengths]), np.arange(101) % 2, "test")


def loader(jets: Jets, workers: int = 0) -> ResumableLoader:
    dataset = JetDataset(jets, Preparation())
    return ResumableLoader(dataset, BatchSampler(dataset.lengths, 8, 0, True, seed=3), workers)


def test_cuts_respect_both_limits():
    lengths = np.random.default_rng(1).integers(1, 50, 500)
    for size, budget in ((7, 0), (1000, 120), (5, 100)):
        cuts = cut_batches(lengths, size, budget)
        assert [i for c in cuts for i in range(c.start, c.stop)] == list(range(500))
        for cut in cuts:
            assert cut.stop - cut.start <= size
            assert not budget or lengths[cut].sum() <= budget
    assert cut_batches(np.array([5, 200, 5]), 10, 100) == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_epochs_differ_and_cover_the_jets(jets):
    sampler = BatchSampler(jets.lengths, 8, 0, True, seed=3)
    first, second = ([list(b) for b in sampler] for _ in range(2))
    assert first != second
    assert len({i for b in first for i in b}) == 96  # 101 jets in full batches of 8
    with pytest.raises(ValueError, match="batch_size"):
        BatchSampler(jets.lengths, 0, 0, True, seed=3)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stop", [1, 5, 12])
def test_loader_resumes_at_the_exact_batch(jets, workers, stop):
    reference = loader(jets)
    expected = [b.fourmomenta for _ in range(2) for b in reference]
    stopped = loader(jets, workers)
    seen = [b.fourmomenta for b in islice(iter(stopped), stop)]
    resumed = loader(jets)
    resumed.load_state_dict(stopped.state_dict())
    seen += [b.fourmomenta for _ in range(2) for b in resumed]
    for a, b in zip(expected, seen, strict=False):
        assert torch.equal(a, b)


@pytest.mark.parametrize("workers", [0, 1])
def test_iterators_draw_nothing_from_the_global_generator(jets, workers):
    """A resumed run makes more of them than one that never stops, with the same dropout."""
    ours = loader(jets, workers)
    before = torch.get_rng_state()
    for _ in range(2):
        list(islice(iter(ours), 2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_outlive_the_first_request_to_end(jets, workers):
    """Batch systems send SIGTERM to all processes at once; the run finishes its step before."""
    expected = [b.fourmomenta for b in loader(jets)]
    seen = []
    for i, batch in enumerate(loader(jets, workers)):
        seen.append(batch.fourmomenta)
        if i == 2:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGTERM)
    assert all(torch.equal(a, b) for a, b in zip(expected, seen, strict=True))


def test_consumer_that_stops_at_the_last_batch(jets):
    # Lightning knows the length and never asks for one batch more.
    ours = loader(jets)
    for _ in range(2):
        assert len(list(islice(iter(ours), len(ours)))) == len(ours)


def test_batches_hold_what_the_file_holds(jets):
    dataset = JetDataset(jets, Preparation())
    batch = dataset[np.array([5, 3, 9])]
    assert list(batch.packing.lengths) == sorted(jets.lengths[[5, 3, 9]])
    for target, p in zip(batch.target, batch.fourmomenta.split(batch.packing.lengths), strict=True):
        same = [
            j
            for j in (5, 3, 9)
            if np.array_equal(jets.constituents[jets.offsets[j] : jets.offsets[j + 1]], p)
        ]
        assert len(same) == 1 and jets.labels[same[0]] == target


def test_leading_constituents(jets):
    batch = JetDataset(jets, Preparation(max_constituents=4))[np.array([0, 1, 2, 3])]
    assert max(batch.packing.lengths) <= 4
    hardest = set()
    for first, last in zip(jets.offsets[:4], jets.offsets[1:5], strict=True):
        p = jets.constituents[first:last]
        hardest.add(tuple(p[np.argmax(np.hypot(p[:, 1], p[:, 2]))].tolist()))
    assert hardest <= {tuple(p) for p in batch.fourmomenta.tolist()}


def test_features_by_hand():
    p = torch.tensor([[50.0, 30.0, 0.0, 40.0], [13.0, 0.0, 12.0, 5.0]])
    packing = Packing.from_lengths([2])
    values = dict(
        zip(SETS["kinematics"], compute_features(p, packing, ["kinematics"]).T, strict=True)
    )
    jet_pt, jet_eta = math.hypot(30, 12), math.asinh(45 / math.hypot(30, 12))
    assert values["log_pt"][0] == pytest.approx(0.7 * (math.log(30) - 1.7))
    assert values["log_pt_relative"][1] == pytest.approx(0.7 * (math.log(12 / jet_pt) + 4.7))
    assert values["delta_eta"][0] == pytest.approx(2 * (math.asinh(4 / 3) - jet_eta), rel=1e-5)
    assert values["delta_phi"][1] == pytest.approx(2 * (math.pi / 2 - math.atan2(12, 30)))
    with pytest.raises(ValueError, match="log_pt"):
        compute_features(p, packing, ["colour"])


def test_columns_of_the_sample():
    p = torch.tensor([[50.0, 30.0, 0.0, 40.0], [13.0, 0.0, 12.0, 5.0]])
    packing = Packing.from_lengths([2])
    columns = {"d0": torch.tensor([0.5, -3.0]), "d0_error": torch.tensor([0.2, 7.0])}
    found = compute_features(p, packing, ["d0", "d0_error"], columns)
    expected = torch.tensor([[math.tanh(0.5), 0.2], [math.tanh(-3.0), 1.0]])
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="'charge' needs the column 'charge'.*: d0, d0_error"):
        compute_features(p, packing, ["pid"], columns)


def test_columns_of_features_are_known_ones():
    """Others no reader can give."""
    assert set(columns_of(tuple(FEATURES))) == set(PARTICLES)
    assert columns_of(["d0_error", "log_pt", "d0", "d0_error"]) == ("d0_error", "d0")


def test_sets_of_features():
    assert feature_names(["fourmomenta"]) == ()
    assert feature_names(["log_pt", "kinematics"])[:3] == (
        "log_pt",
        "log_energy",
        "log_pt_relative",
    )
    assert len(feature_names(["default"])) == 7 + 6 + 4


def test_datamodule_from_shipped_jets():
    from experiments.cli import ROOT

    module = JetData(
        str(ROOT / "data/toptagging_mini.h5"),
        16,
        0,
        2000,
        ["log_pt"],
        40,
        [],
        100,
        0,
        1,
        eval_limit=64,
    )
    module.setup()
    assert module.num_jets() == {"train": 100, "val": 64, "test": 64}
    assert module.spec.num_scalars == 1
    assert sum(len(b) for b in module.test_dataloader()) == 64
    for batch in module.test_dataloader():
        assert batch.packing.num_tokens <= 2000 and max(batch.packing.lengths) <= 40
