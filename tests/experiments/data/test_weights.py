"""Weights of jets on their way: from files, balanced, into batches, loss and scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data.formats import packed, read_jets
from data.jets import Jets
from experiments.cli import ROOT
from experiments.data.balance import Balance
from experiments.data.datamodule import JetData
from experiments.data.streaming_datamodule import StreamedData
from experiments.metrics.scores import Scores
from experiments.tasks.classification import Classification
from support import commands

SAMPLE = ROOT / "data" / "toptagging_mini.h5"


def sample(split, count, weighted):
    jets = read_jets(SAMPLE, split, count)
    weight = 0.5 + np.arange(count, dtype=np.float32) % 3
    columns = {"weight": weight} if weighted else {}
    return Jets(jets.constituents, jets.offsets, jets.labels, "x", jets.classes, jets=columns)


@pytest.fixture(params=[False, True], ids=["plain", "weighted"])
def weighted(request):
    return request.param


@pytest.fixture
def path(tmp_path, weighted):
    splits = {split: sample(split, 200, weighted) for split in ("train", "val", "test")}
    packed.write(tmp_path / "jets.h5", splits, {})
    return tmp_path / "jets.h5"


@pytest.fixture
def folder(tmp_path, weighted):
    for split in ("train", "val", "test"):
        packed.write(tmp_path / "jets" / split / "a.h5", {split: sample(split, 200, weighted)}, {})
    return tmp_path / "jets"


def in_memory(path, **changed):
    data = JetData(str(path), 32, 0, 4000, [], 20, [], 0, 0, 1, **changed)
    data.setup()
    return data


def of(batches):
    """Weights, energies and labels of all jets, in an order of their own."""
    found = []
    for batch in batches:
        energy = torch.zeros(len(batch)).index_add(
            0, batch.packing.batch_index(), batch.fourmomenta[:, 0]
        )
        weight = torch.ones(len(batch)) if batch.weight is None else batch.weight
        found += list(zip(energy.tolist(), weight.tolist(), batch.target.tolist(), strict=True))
    return sorted(found)


def test_weights_of_a_file_come_with_the_jets(path, folder, weighted):
    streamed = StreamedData(str(folder), 32, 50, [], 20, [], 0, 0, 64, 2, 0, False, 1)
    streamed.setup()
    everywhere = [
        of(in_memory(path, resident=resident).test_dataloader()) for resident in (False, True)
    ]
    for found in (*everywhere, of(streamed.test_dataloader())):
        assert {w for _, w, _ in found} == ({0.5, 1.5, 2.5} if weighted else {1.0})
        np.testing.assert_allclose(
            [x[:2] for x in found], [x[:2] for x in everywhere[0]], rtol=1e-5
        )
    assert (next(iter(in_memory(path).test_dataloader())).weight is None) != weighted


@pytest.mark.parametrize("kind", ["resident", "read", "streamed"])
def test_balanced_classes(path, folder, kind):
    balance = Balance(classes=True, flatten={"pt": [0, 1e5]})
    if kind == "streamed":
        data = StreamedData(str(folder), 32, 50, [], 20, [], 0, 0, 64, 2, 0, False, 1, balance)
        data.setup()
    else:
        data = in_memory(path, balance=balance, resident=kind == "resident")
    found = of(data.train_pass())
    sums = [sum(w for _, w, y in found if y == label) for label in (0, 1)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)
    assert sum(sums) == pytest.approx(len(found), rel=1e-4)
    tested = of(data.test_dataloader())
    assert {round(w, 3) for _, w, _ in tested} <= {0.5, 1.0, 1.5, 2.5}, "own weights alone"
    batch = next(iter(data.train_dataloader()))
    assert batch.weight is not None and len(batch.weight) == len(batch)


def test_nothing_is_weighted_by_default(path, weighted):
    data = in_memory(path, balance=Balance())
    assert (next(iter(data.train_dataloader())).weight is None) != weighted


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_loss_is_the_weighted_mean(outputs):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, outputs, generator=generator).squeeze(1)
    target = torch.arange(50) % (2 if outputs == 1 else 3)
    weight = torch.rand(50, generator=generator)

    class Spec:
        class_outputs = outputs

    class Batch:
        def __init__(self, weight):
            self.target, self.weight = target, weight

    class Task:
        spec = Spec

    losses = (
        F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
        if outputs == 1
        else F.cross_entropy(logits, target, reduction="none")
    )
    loss_of = Classification.loss_of
    assert torch.allclose(loss_of(Task(), logits, Batch(weight)), (losses * weight).mean())
    assert torch.allclose(loss_of(Task(), logits, Batch(None)), losses.mean())


def test_scores_keep_weights(tmp_path):
    scores = Scores(
        torch.randn(4), torch.arange(4) % 2, torch.ones(4), torch.ones(4), torch.rand(4)
    )
    joined = Scores.joined([scores, scores])
    joined.save(tmp_path / "scores.h5", ("a", "b"))
    found, _ = Scores.load(tmp_path / "scores.h5")
    assert torch.equal(found.weight, torch.cat([scores.weight] * 2))
    assert torch.equal(found.where(found.target == 1).weight, found.weight[found.target == 1])


@pytest.mark.slow
def test_a_run_with_weights(path, tmp_path, weighted):
    run = tmp_path / "run"
    commands.run(
        "experiment=toptagging", "model=transformer_small", "model.num_blocks=1", "debug=fast",
        "plots=[]",
        f"data.path={path}", "data.balance.classes=true", "data.features=[]",
        "data.balance.flatten={pt: [400, 600, 800]}", "task.windows={pt: [500, 600, 700]}",
        "data.eval_limit=200", f"run_dir={run}", check=True,
    )  # fmt: skip
    found = json.loads((run / "metrics.json").read_text())
    jets = sample("test", 200, False).leading(50)  # as the experiment takes them
    pt = np.hypot(*np.add.reduceat(jets.constituents[:, 1:3], jets.offsets[:-1]).T)
    assert found["jets_pt_500_600"] == ((pt >= 500) & (pt < 600)).sum() > 50
    assert "auc_pt_500_600" in found
    scores, _ = Scores.load(run / "test_scores.h5")
    assert (scores.weight is not None) == weighted
