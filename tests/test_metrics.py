"""Figures of merit against scikit-learn and against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from experiments.metrics.tagging import auc_error, rejection_error, tagging_metrics


def scores(jets: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, jets)
    logits = torch.from_numpy(rng.normal(2.0 * target - 1.0, 1.5).astype(np.float32))
    return logits, torch.from_numpy(target)


def test_against_scikit_learn():
    logits, target = scores(5000)
    found = tagging_metrics(logits, target)
    assert found["auc"] == pytest.approx(
        roc_auc_score(target, logits), abs=1e-8
    )  # rates are float32
    assert found["accuracy"] == pytest.approx(accuracy_score(target, logits > 0))
    assert found["loss"] == pytest.approx(log_loss(target, logits.double().sigmoid()), abs=1e-6)


def test_ties_count_half():
    logits = torch.tensor([0.0, 0.0, 1.0, 1.0])
    found = tagging_metrics(logits, torch.tensor([0, 1, 0, 1]))
    assert found["auc"] == pytest.approx(0.5)
    # At half of the signal (the jet with score 1) half of the background passes.
    assert found["rejection_at_0.5"] == pytest.approx(2.0)


def test_interpolated_rejection():
    # Signal and background alternate: the ROC curve is the diagonal at every distinct score pair.
    logits = torch.arange(2000).float().repeat_interleave(2)
    target = torch.tensor([0, 1]).repeat(2000)
    found = tagging_metrics(logits, target)
    assert found["rejection_at_0.5"] == pytest.approx(2.0, rel=1e-3)
    assert found["rejection_at_0.3"] == pytest.approx(1 / 0.3, rel=1e-3)


def test_large_logits_do_not_tie():
    # A sigmoid in float32 maps all of these to 1.
    found = tagging_metrics(torch.tensor([20.0, 21.0, 22.0, 23.0]), torch.tensor([0, 0, 1, 1]))
    assert found["auc"] == 1.0


def test_no_background_left_gives_a_limit():
    logits, target = torch.tensor([-3.0] * 30 + [3.0] * 30), torch.tensor([0] * 30 + [1] * 30)
    found = tagging_metrics(logits, target)
    assert found["rejection_at_0.3"] is None
    assert found["rejection_at_0.3_lower_limit_95"] == pytest.approx(10.0)


def test_errors_match_the_spread_of_repeated_samples():
    found = [tagging_metrics(*scores(3000, seed)) for seed in range(300)]
    for name in ("auc", "accuracy", "loss", "rejection_at_0.5"):
        spread = np.std([f[name] for f in found])
        assert np.mean([f[f"{name}_error"] for f in found]) == pytest.approx(spread, rel=0.2)


def test_formulas():
    assert rejection_error(100.0, 10_000) == pytest.approx(100 * math.sqrt(0.99 / 100))
    assert auc_error(0.5, 100, 100) == pytest.approx(math.sqrt(201 / (12 * 100 * 100)), rel=1e-2)


def test_bad_scores():
    with pytest.raises(ValueError, match="not finite"):
        tagging_metrics(torch.tensor([0.0, math.nan]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="both classes"):
        tagging_metrics(torch.tensor([0.0, 1.0]), torch.tensor([1, 1]))
