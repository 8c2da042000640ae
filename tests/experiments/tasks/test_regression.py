"""The task of predicting amplitudes, and its metrics."""

from __future__ import annotations

import itertools
import json
import math
from functools import partial
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from experiments.data.batch import DataSpec, EventBatch
from experiments.errors import UserError
from experiments.metrics.hierarchy import hierarchy
from experiments.metrics.predictions import Predictions
from experiments.metrics.regression_metrics import regression_metrics, relative_errors
from experiments.models.dsi import DSI
from experiments.models.mlp import MLP
from experiments.plots import regression as plots
from experiments.tasks.classification import Classification
from experiments.tasks.regression import Regression
from lgatr import Packing
from support.commands import module, run
from support.lorentz import random_transformation
from support.slow import every

SPEC = DataSpec(2, quantity="logarithm of the amplitude")
OPTIMIZER = partial(torch.optim.AdamW, lr=1e-3)


def task(model=None, spec=SPEC):
    return Regression(spec, model or torch.nn.Identity(), OPTIMIZER, lambda *_, **__: None)


def batch(events=6, particles=4):
    target = torch.randn(events, dtype=torch.float64) * 3 + 5
    momenta = torch.randn(events * particles, 4, dtype=torch.float64)
    momenta[:, 0] = momenta[:, 1:].norm(dim=1)
    packing = Packing.from_lengths([particles] * events)
    return EventBatch(momenta, torch.zeros(len(momenta), 2), packing, target)


def test_loss_and_results_are_in_standard_units():
    """A target that is not standardised, or by numbers of another sample."""
    ours, events = task(), batch()
    ours.check_data(SimpleNamespace(target_statistics=lambda: (5.0, 2.0)))
    outputs = torch.randn(6)
    wanted = (events.target - 5) / 2
    assert float(ours.loss_of(outputs, events)) == pytest.approx(
        float((outputs.double() - wanted).square().mean()), rel=1e-6
    )
    kept = ours.kept(outputs, events)
    assert torch.equal(kept.target, wanted) and kept.predicted.dtype == torch.float64
    other = task()
    other.load_state_dict(ours.state_dict())
    assert float(other.std) == 2.0


def test_metrics():
    target = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
    difference = torch.tensor([0.1, -0.2, 0.001], dtype=torch.float64)
    found = regression_metrics(Predictions(target + difference, target), std=2.0)
    squares = np.array([0.01, 0.04, 1e-6])
    assert found["mse"] == pytest.approx(squares.mean())
    assert found["mse_error"] == pytest.approx(squares.std(ddof=1) / math.sqrt(3))
    assert found["mse_times_1e5"] == pytest.approx(1e5 * squares.mean())
    assert found["mse_of_logarithm"] == pytest.approx(4 * squares.mean())
    assert found["median_relative_error"] == pytest.approx(math.exp(0.2) - 1)
    assert found["within_1_percent"] == found["within_10_percent"] == pytest.approx(1 / 3)
    errors = relative_errors(Predictions(target + difference, target), 2.0)
    assert errors.tolist() == pytest.approx([math.exp(2 * d) - 1 for d in (0.1, -0.2, 0.001)])


def test_uncertainties():
    """A variance taken for a width, or pulls that are not of standard units."""
    ours = Regression(SPEC, torch.nn.Identity(), OPTIMIZER, lambda *_, **__: None, uncertainty=True)
    assert Regression.asked(SPEC, {"uncertainty": True}).num_outputs == 2
    assert Regression.asked(SPEC, {}).num_outputs == 1
    ours.check_data(SimpleNamespace(target_statistics=lambda: (5.0, 2.0)))
    events, mean, log_variance = batch(), torch.randn(6).double(), torch.randn(6).double()
    wanted = (events.target - 5) / 2
    normal = torch.distributions.Normal(mean, log_variance.exp().sqrt())
    density = normal.log_prob(wanted)
    outputs = torch.stack([mean, log_variance], 1)
    loss = float(ours.loss_of(outputs, events)) + 0.5 * math.log(2 * math.pi)
    assert loss == pytest.approx(-float(density.mean()))
    found = ours.metrics_of(ours.kept(outputs, events))
    assert found["nll"] == pytest.approx(loss)
    pulls = (mean - wanted) / normal.stddev
    assert found["pull_mean"] == pytest.approx(float(pulls.mean()))
    assert found["pull_std"] == pytest.approx(float(pulls.std()))
    assert found["pulls_within_1"] == pytest.approx(float((pulls.abs() < 1).double().mean()))


@pytest.mark.parametrize("lengths", [[4] * 3, [2, 5, 1, 5]])
def test_hierarchy(lengths):
    """By loops over pairs; and it is the same in all frames."""
    momenta = torch.randn(sum(lengths), 4, dtype=torch.float64)
    momenta[:, 0] = momenta[:, 1:].norm(dim=1)
    packing = Packing.from_lengths(lengths)
    metric = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    wanted = []
    for event in momenta.split(lengths):
        pairs = [abs(float((a * metric) @ b)) for a, b in itertools.combinations(event, 2)]
        wanted.append(min(pairs) / max(pairs) if pairs else 0.0)
    for p in (momenta, momenta @ random_transformation(1.0).T):
        events = EventBatch(p, torch.zeros(len(p), 0), packing, torch.zeros(len(lengths)))
        assert hierarchy(events).tolist() == pytest.approx(wanted, rel=1e-6)


def test_data_and_task_must_fit():
    with pytest.raises(UserError, match="choose task=tagging"):
        task(spec=DataSpec(2, ("a", "b")))
    with pytest.raises(UserError, match="choose task=regression"):
        Classification(SPEC, torch.nn.Identity(), OPTIMIZER, lambda *_, **__: None)
    with pytest.raises(UserError, match="the same logarithm"):
        task().check_data(SimpleNamespace(target_statistics=lambda: (1.0, 0.0)))


@pytest.mark.parametrize("events", every(3, [1, 3, 500]))
def test_plots_of_any_sample(events, tmp_path):
    drawn = torch.randn(2, events, dtype=torch.float64)
    plots.plot_all(Predictions(drawn[0], drawn[0] + 1e-3 * drawn[1]), 2.0, 3.0, tmp_path)
    assert (tmp_path / "relative_errors.png").stat().st_size > 1000


def test_predictions_are_saved_as_logarithms(tmp_path):
    ours = task()
    ours.check_data(SimpleNamespace(target_statistics=lambda: (5.0, 2.0)))
    ours.save(Predictions(torch.tensor([1.0]).double(), torch.tensor([-1.0]).double()), tmp_path)
    with h5py.File(tmp_path / "test_predictions.h5") as file:
        assert file["predicted"][0] == 7.0 and file["target"][0] == 3.0


class TestMLP:
    @pytest.mark.parametrize("inputs", ["momenta", "invariants"])
    def test_symmetry(self, inputs):
        """Invariants that are none, or momenta taken for those of another event."""
        net = MLP(SPEC, 4, inputs, 8, 2, 1.0).double()
        events = batch()
        moved = EventBatch(
            events.fourmomenta @ random_transformation(1.0).T, events.scalars, events.packing,
            events.target,
        )  # fmt: skip
        before, after = net(events), net(moved)
        assert before.shape == (6, 1)
        assert torch.allclose(before, after, rtol=1e-6) == (inputs == "invariants")
        alone = EventBatch(
            events.fourmomenta[4:8], events.scalars[4:8], Packing.from_lengths([4]),
            events.target[1:2],
        )  # fmt: skip
        assert torch.allclose(net(alone), before[1:2])

    def test_another_number_of_particles(self):
        with pytest.raises(UserError, match=r"model\.particles=5: events have 4 particles"):
            MLP(SPEC, 5, "momenta", 8, 2, 1.0)(batch())


class TestDSI:
    def test_order_of_particles_of_one_type(self):
        """Sums over particles of one type, of which all are alike; and each event is its own."""
        net = DSI(SPEC, 4, 8, 2, 3, 1.0).double()
        events = batch()
        types = torch.eye(2, dtype=torch.float64)[[0, 0, 1, 1]].repeat(6, 1)
        p = events.fourmomenta.view(6, 4, 4)

        def outputs(order, rows=slice(None)):
            momenta = p[rows][:, order].flatten(0, 1)
            count = len(momenta) // 4
            packing = Packing.from_lengths([4] * count)
            return net(EventBatch(momenta, types[: len(momenta)], packing, events.target[:count]))

        same = outputs([0, 1, 2, 3])
        net.invariants.forward = lambda p: torch.zeros(len(p), 6)  # ordered pairs are left out
        alike, other = outputs([1, 0, 3, 2]), outputs([2, 1, 0, 3])
        mine = outputs([0, 1, 2, 3])
        assert torch.allclose(alike, mine) and not torch.allclose(other, mine)
        assert same.shape == (6, 1) and not torch.allclose(same, mine)
        assert torch.allclose(outputs([0, 1, 2, 3], slice(2, 3)), mine[2:3])


FAST = (
    "experiment=amplitudes", "data.process=zg", "data.events=256", "data.eval_events=64",
    "trainer.max_steps=8", "trainer.val_check_interval=4", "trainer.log_every_n_steps=1",
    "attention=native",
)  # fmt: skip


def test_a_run_and_its_test_on_other_events(tmp_path):
    """Everything of a run: its figures, plots, report, and a test on a file."""
    folder = tmp_path / "run"
    options = ("model.network.num_blocks=1", "plots=[png]", f"run_dir={folder}")
    done = run(*FAST, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "MSE" in (folder / "report.html").read_text()
    results = json.loads((folder / "metrics.json").read_text())
    assert results["mse"] > 0 and results["best_val_mse"] > 0 and results["steps"] == 8
    assert results["jets"] == {"train": 256, "val": 64, "test": 64}
    assert results["symmetry"] == "O(1,3)"
    for name in ("relative_errors", "residuals", "predicted", "loss", "learning_rate"):
        assert (folder / "plots" / f"{name}.png").stat().st_size > 1000
    file = tmp_path / "zg.h5"
    options = ("--process", "zg", "--events", "100", "--seed", "5", "--out", str(file))
    module("data.generate", "amplitudes", *options, check=True)
    done = module("experiments.evaluate", str(folder), "--data", str(file), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("evaluation_*.json")
    assert json.loads(found.read_text())["mse"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "lloca_amplitudes", "dsi", "mlp model.inputs=invariants",
        "lgatr_slim_amplitudes task.uncertainty=true", "mlp scheduler=plateau optimizer=adam",
    ],
)  # fmt: skip
def test_models(model, tmp_path):
    options = [f"model={model.split()[0]}", *model.split()[1:]]
    particles = ["model.particles=4"] if model.startswith(("mlp", "dsi")) else []
    options += ["plots=[]", f"run_dir={tmp_path / 'run'}"]
    done = run(*FAST, *options, *particles, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


WRONG = {
    "data.process=ggg": "data.process",
    "data.frame_velocity=0.5": "data.frame_velocity",
    "data.path=nowhere.h5": "nowhere.h5: no such file",
    "task=tagging callbacks=default": "choose task=regression",
    "callbacks.best.monitor=val/auc": "callbacks.best.monitor",
}


@pytest.mark.parametrize("option", every(4, WRONG))
def test_wrong_options_end_in_one_line(option, tmp_path):
    done = run(*FAST, *option.split(), f"run_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert WRONG[option] in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()
