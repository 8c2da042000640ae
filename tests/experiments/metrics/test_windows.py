"""Metrics in windows are those of the jets in them alone."""

from __future__ import annotations

import pytest
import torch

from experiments.errors import UserError
from experiments.metrics.score_metrics import score_metrics
from experiments.metrics.scores import Scores
from experiments.metrics.windows import check_windows, window_metrics

CLASSES = ("a", "b")


def sample(jets=600):
    generator = torch.Generator().manual_seed(1)
    target = torch.arange(jets) % 2
    logits = torch.randn(jets, generator=generator) + 2 * target - 1
    mass, pt, weight = (torch.rand(3, jets, generator=generator) * 100).unbind(0)
    return Scores(logits, target, mass, 500 + pt, weight)


def metrics(scores):
    return score_metrics(scores, CLASSES, allow_absent=True)


def test_they_are_those_of_the_jets_in_them():
    scores = sample()
    found = window_metrics(scores, {"pt": [500, 540, 600], "mass": [0, 1e-9, 50]}, metrics)
    chosen = (scores.pt >= 500) & (scores.pt < 540)
    of_window = metrics(scores.where(chosen))
    assert found["jets_pt_500_540"] == int(chosen.sum())
    assert found["auc_pt_500_540"] == of_window["auc"]
    assert found["auc_pt_500_540_error"] == of_window["auc_error"]
    assert found["rejection_at_0.5_pt_500_540"] == of_window["rejection_at_0.5"]
    assert found["jets_pt_500_540"] + found["jets_pt_540_600"] == 600
    assert found["jets_mass_0_1e-09"] == 0 and "auc_mass_0_1e-09" not in found
    assert "loss_pt_500_540" not in found


def test_windows_without_jets_of_a_class():
    scores = sample()
    one = scores.where(scores.target == 1)
    assert window_metrics(one, {"pt": [500, 600]}, metrics)["auc_pt_500_600"] is None


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"eta": [0, 1]}, r"task\.windows\.eta: must be one of pt, mass"),
        ({"pt": [500]}, r"task\.windows\.pt: two or more edges that rise"),
        ({"mass": [100, 50]}, "edges that rise are wanted, not"),
    ],
)
def test_mistakes_are_named(windows, message):
    with pytest.raises(UserError, match=message):
        check_windows(windows)
