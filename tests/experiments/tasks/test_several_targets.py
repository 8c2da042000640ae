"""Quantities that are predicted beside classes."""

from __future__ import annotations

import json
from functools import partial

import h5py
import numpy as np
import pytest
import torch

from data.formats import packed, read_jets
from data.jets import Jets
from experiments.cli import ROOT
from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.tasks.several_targets import SeveralTargets, Target
from experiments.training.schedules import cosine_with_warmup
from support import commands
from support.slow import every

SAMPLE = ROOT / "data" / "toptagging_mini.h5"


def test_losses_have_their_minimum_at_means_and_quantiles():
    """Of a thousand true values, found by steps of gradient."""
    true = torch.randn(1001, generator=torch.Generator().manual_seed(1), dtype=torch.float64).exp()
    levels = (0.16, 0.5, 0.84)
    quantiles = true.quantile(torch.tensor(levels, dtype=torch.float64))
    for target, expected in (
        (Target("x"), true.mean()[None]),
        (Target("x", quantiles=levels), quantiles),
    ):
        at = torch.zeros(target.outputs, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([at], lr=0.05)
        for step in range(600):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 600)
            loss = target.losses(at.expand(len(true), -1), true).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        np.testing.assert_allclose(at.detach(), expected, atol=0.02)


def test_targets_that_are_wrong():
    with pytest.raises(UserError, match="quantiles must rise"):
        Target("x", quantiles=(0.5, 0.1))


def test_results_of_the_rehearsal_draw_nothing_from_the_run():
    """Processes whose generators differed: only the first one rehearses."""
    schedule = partial(cosine_with_warmup, warmup_steps=0, final_fraction=0.0)
    spec = DataSpec(0, ("a", "b"), further_outputs=4)
    targets = {"x": Target("x"), "y": Target("y", quantiles=(0.1, 0.5, 0.9))}
    task = SeveralTargets(spec, torch.nn.Identity(), torch.optim.Adam, schedule, targets)
    before = torch.get_rng_state()
    made_up = task.made_up()
    assert torch.equal(torch.get_rng_state(), before)
    assert made_up.predicted["y"].shape == (len(made_up.true["y"]), 3)


def write(path, column):
    """Jets with a column that their momenta tell: the energy of all particles."""
    splits = {}
    for split, count in (("train", 600), ("val", 200), ("test", 200)):
        jets = read_jets(SAMPLE, split, count)
        energy = np.add.reduceat(jets.constituents[:, 0], jets.offsets[:-1])
        columns = {"energy": energy if column == "energy" else energy * 0 + column}
        splits[split] = Jets(
            jets.constituents, jets.offsets, jets.labels, "x", jets.classes, jets=columns
        )
    packed.write(path, splits, {})


OPTIONS = (
    "experiment=toptagging", "task=several_targets", "model=transformer_small",
    "model.num_blocks=1",
    "task.targets.mass.column=energy", "task.targets.mass.logarithm=true",
)  # fmt: skip


@pytest.mark.slow
def test_a_run_predicts_them(tmp_path):
    """The classes, quantiles of one target and the mean of another."""
    write(tmp_path / "jets.h5", "energy")
    run = tmp_path / "run"
    mean = "{_target_: experiments.tasks.several_targets.Target, column: energy, logarithm: true}"
    commands.run(
        *OPTIONS, f"data.path={tmp_path / 'jets.h5'}", "data.event_columns=[energy]",
        "task.targets.mass.quantiles=[0.16,0.5,0.84]", f"+task.targets.mean={mean}",
        "trainer.max_steps=500", "optimizer.lr=3e-3", "trainer.val_check_interval=100",
        "plots=[png]", f"run_dir={run}", check=True,
    )  # fmt: skip
    found = json.loads((run / "metrics.json").read_text())
    assert 0.5 < found["auc"] < 1
    for name in ("mass", "mean"):
        with h5py.File(run / "test_predictions.h5") as file:
            predicted, true = file[f"{name}/predicted"][:], file[f"{name}/true"][:]
        middle = predicted[:, predicted.shape[1] // 2]
        error = np.quantile(abs(middle - true), 0.5, method="lower")
        assert found[f"{name}_median_error"] == pytest.approx(error, rel=1e-6)
        assert error < 0.5 * np.median(abs(true - np.median(true)))
        assert f"{name}_median_error_signal" in found
        assert (run / "plots" / f"response_{name}.png").is_file()
    below = [found[f"mass_below_{level}"] for level in (0.16, 0.5, 0.84)]
    assert np.abs(np.array(below) - [0.16, 0.5, 0.84]).max() < 0.2


MISTAKES = [
    ((), "energy", "batches have no column energy; add it to data.event_columns"),
    (("data.event_columns=[mass]",), "energy", "its jets have no column mass; they have energy"),
    (("data.event_columns=[energy]",), 3, "energy is the same for all training jets"),
    (("data.event_columns=[energy]",), -3, "energy is not above zero for all training jets"),
]


@pytest.mark.parametrize(("options", "column", "message"), every(3, MISTAKES))
def test_mistakes_are_named(tmp_path, options, column, message):
    write(tmp_path / "jets.h5", column)
    done = commands.run(
        *OPTIONS, *options, f"data.path={tmp_path / 'jets.h5'}", f"run_dir={tmp_path / 'run'}"
    )
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr
