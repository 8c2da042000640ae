"""What could fail only after training is tried before it, and leaves no trace."""

from __future__ import annotations

import json

import pytest
import torch
from hydra import compose, initialize_config_dir

from experiments.cli import CONFIG_DIR
from experiments.errors import UserError
from experiments.metrics.incomplete import incomplete_metrics
from experiments.metrics.scores import Scores
from experiments.metrics.tagging import tagging_metrics
from experiments.report.results import save_results
from experiments.training import results
from experiments.training.failures import explained_after_training
from experiments.training.rehearsal import rehearse
from support.tagging_task import CPU, Sums, make_data, make_task

NAMES = [
    "$", r"$\nothing{$", "_hidden", "a_b^c", "x" * 500, "<b>&'\"", "ε→ŝ", "{}%s#~", "a\nb", "\\",
]  # fmt: skip


@pytest.fixture(scope="module")
def cfg():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("run")


def test_no_trace(cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task, data = make_task(("background", "signal")), make_data([0, 1] * 10)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    generator = torch.get_rng_state()
    rehearse(cfg, task, data, CPU)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert task.model.training and all(p.grad is None for p in task.parameters())
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.slow
def test_odd_names_of_classes(cfg):
    data = make_data(list(range(10)) * 3, tuple(NAMES))
    efficiencies = {name: 0.5 for name in NAMES[1:]}
    task = make_task(NAMES, background=NAMES[0], efficiencies=efficiencies)
    rehearse(cfg, task, data, CPU)
    for pair in zip(NAMES[::2], NAMES[1::2], strict=True):
        data = make_data([0, 1] * 10, pair)
        rehearse(cfg, make_task(pair), data, CPU)


def test_models_that_do_not_fit(cfg):
    data, classes = make_data([0, 1] * 10), ("background", "signal")
    with pytest.raises(UserError, match=r"outputs of shape \(4, 1\), not \(4, 3\)"):
        rehearse(cfg, make_task(classes, Sums(3)), data, CPU)

    class Broken(Sums):
        def forward(self, batch):
            return super().forward(batch).detach()

    with pytest.raises(UserError, match="a training step on a few jets failed before training"):
        rehearse(cfg, make_task(classes, Broken(1)), data, CPU)


def test_classes_without_jets(cfg, tmp_path):
    """Of validation: the best weights could not be told. Of the test: what remains is measured."""
    data, task = make_data([1] * 20), make_task(("background", "signal"))
    with pytest.raises(UserError, match="validation sample has no jets of background"):
        rehearse(cfg, task, data, CPU)
    scores = Scores(torch.randn(20), torch.ones(20), torch.rand(20), torch.rand(20))
    with pytest.raises(UserError, match="every class"):
        task.metrics_of(scores)
    found = task.metrics_of(scores, allow_absent=True)
    assert found["auc"] is None and "no jets of background" in found["undefined"]
    save_results(tmp_path / "run", cfg, found, task, scores)
    kept = json.loads((tmp_path / "run/metrics.json").read_text())
    assert kept["accuracy"] == found["accuracy"] and kept["auc"] is None


def test_what_is_left_of_the_figures():
    """Accuracy and loss are those of the sample, whether or not all classes are in it."""
    logits, target = torch.randn(50), torch.arange(50) % 2
    whole, part = tagging_metrics(logits, target), incomplete_metrics(logits, target)
    for name in ("accuracy", "accuracy_error", "loss", "loss_error"):
        assert part[name] == pytest.approx(whole[name], rel=1e-6)


def test_a_model_that_cannot_be_inspected(tmp_path):
    """It keeps its figures of merit: those of cost are None, with a warning."""

    class Opaque(Sums):
        def forward(self, batch):
            if batch.fourmomenta.dtype == torch.float64:
                raise RuntimeError("float32 alone")
            return super().forward(batch)

    data = make_data([0, 1] * 10)
    task = make_task(("background", "signal"), Opaque(1).eval())
    with pytest.warns(UserWarning, match="could not be measured .*float32 alone"):
        found = results._inspected(task, data, tmp_path, CPU)
    assert found["symmetry"] is None and found["flops_per_jet"] > 0


@pytest.mark.parametrize("error", [KeyError("key"), OSError(28, "full", "f"), ValueError("wrong")])
def test_failures_after_training_name_the_way_on(error, monkeypatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(UserError, match="weights are kept, test and report go on by: COMMAND"):
        with explained_after_training("COMMAND"):
            raise error
