"""Figures of merit against scikit-learn and against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from experiments.metrics.calibration import expected_calibration_error, reliability
from experiments.metrics.multiclass import multiclass_metrics
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
    with pytest.raises(ValueError, match="every class"):
        tagging_metrics(torch.tensor([0.0, 1.0]), torch.tensor([1, 1]))


class TestMulticlass:
    CLASSES = ("QCD", "Hbb", "Tbl", "Wqq")

    def scores(self, jets=4000):
        rng = np.random.default_rng(1)
        target = rng.integers(0, 4, jets)
        logits = rng.normal(0, 1, (jets, 4)) + 1.5 * np.eye(4)[target]
        return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(target)

    def test_against_scikit_learn(self):
        logits, target = self.scores()
        found = multiclass_metrics(logits, target, self.CLASSES)
        probabilities = logits.double().softmax(1).numpy()
        auc = roc_auc_score(target, probabilities, multi_class="ovo", average="macro")
        assert found["auc"] == pytest.approx(auc, abs=1e-6)
        assert found["accuracy"] == pytest.approx(accuracy_score(target, logits.argmax(1)))
        assert found["loss"] == pytest.approx(log_loss(target, probabilities), abs=1e-6)

    def test_rejections_by_counting(self):
        logits, target = self.scores(100_000)
        found = multiclass_metrics(logits, target, self.CLASSES, "QCD", {"Hbb": 0.5, "Tbl": 0.995})
        for name, efficiency in (("Hbb", 0.5), ("Tbl", 0.995)):
            c = self.CLASSES.index(name)
            p = logits.double().softmax(1)
            score = (p[:, c] / (p[:, c] + p[:, 0])).numpy()
            signal, background = score[target == c], score[target == 0]
            cut = np.quantile(signal, 1 - efficiency)
            counted = 1 / np.mean(background >= cut)
            key = f"rejection_{name}_at_{efficiency:g}"
            assert found[key] == pytest.approx(counted, rel=0.03)
            assert found[f"{key}_error"] > 0

    def test_names(self):
        logits, target = self.scores(100)
        with pytest.raises(ValueError, match="no class Hgg; the sample has QCD, Hbb, Tbl, Wqq"):
            multiclass_metrics(logits, target, self.CLASSES, "QCD", {"Hgg": 0.5})
        with pytest.raises(ValueError, match="every class"):
            multiclass_metrics(logits, target.clamp(max=2), self.CLASSES)

    def test_no_background_left(self):
        logits = torch.tensor([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0], [2.0, 0.0]])
        found = multiclass_metrics(
            logits, torch.tensor([1, 1, 0, 0]), ("QCD", "Hbb"), "QCD", {"Hbb": 0.5}
        )
        assert found["rejection_Hbb_at_0.5"] is None
        assert found["rejection_Hbb_at_0.5_lower_limit_95"] == pytest.approx(2 / 3)


class TestCalibration:
    def test_true_probabilities_are_calibrated(self):
        p = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
        came = torch.rand(200_000, generator=torch.Generator().manual_seed(1)) < p
        assert expected_calibration_error(p, came) < 0.01
        assert expected_calibration_error(p.square(), came) > 0.1

    def test_by_hand(self):
        predicted, observed, count = reliability(
            torch.tensor([0.1, 0.3, 0.9, 1.0]), torch.tensor([0, 1, 1, 1]), bins=2
        )
        assert count.tolist() == [2, 2] and observed.tolist() == [0.5, 1.0]
        torch.testing.assert_close(predicted.tolist(), [0.2, 0.95])


def weighted(jets: int, classes: int = 2):
    rng = np.random.default_rng(3)
    target = rng.integers(0, classes, jets)
    logits = rng.normal(0, 1, (jets, classes)).astype(np.float32)
    logits[np.arange(jets), target] += 1
    weight = rng.exponential(1, jets).astype(np.float32)
    return torch.from_numpy(logits), torch.from_numpy(target), torch.from_numpy(weight)


def test_weights_against_scikit_learn():
    both, target, weight = weighted(5000)
    logits = (both[:, 1] - both[:, 0]).round(decimals=1)  # with ties
    found, each = tagging_metrics(logits, target, weight), {"sample_weight": weight}
    assert found["auc"] == pytest.approx(roc_auc_score(target, logits, **each), abs=1e-7)
    assert found["accuracy"] == pytest.approx(accuracy_score(target, logits > 0, **each))
    probability = logits.double().sigmoid()
    assert found["loss"] == pytest.approx(log_loss(target, probability, **each), abs=1e-6)
    logits, target, weight = weighted(3000, 3)
    found = multiclass_metrics(logits, target, ("a", "b", "c"), weight=weight)
    assert found["accuracy"] == pytest.approx(
        accuracy_score(target, logits.argmax(1), sample_weight=weight)
    )
    expected = log_loss(target, logits.double().softmax(1), sample_weight=weight)
    assert found["loss"] == pytest.approx(expected, abs=1e-6)


def test_whole_weights_are_as_many_jets():
    """A jet of weight three is three jets, but for errors; ones are no weights."""
    both, target, _ = weighted(400)
    logits, times = both[:, 1] - both[:, 0], torch.arange(400) % 3 + 1
    found = tagging_metrics(logits, target, times.float())
    many = tagging_metrics(logits.repeat_interleave(times), target.repeat_interleave(times))
    for name in ("auc", "accuracy", "loss", "rejection_at_0.5", "rejection_at_0.3"):
        assert found[name] == pytest.approx(many[name], rel=1e-5), name
        assert found[f"{name}_error"] > many[f"{name}_error"]
    ones, plain = tagging_metrics(logits, target, torch.ones(400)), tagging_metrics(logits, target)
    for name, value in plain.items():
        assert ones[name] == pytest.approx(value, rel=1e-2 if name.endswith("_error") else 1e-5)
    three, target, _ = weighted(300, 3)
    names, options = ("a", "b", "c"), {"background": "a", "efficiencies": {"b": 0.5, "c": 0.3}}
    times = torch.arange(300) % 2 + 1
    found = multiclass_metrics(three, target, names, **options, weight=times.float())
    many = multiclass_metrics(
        three.repeat_interleave(times, 0), target.repeat_interleave(times), names, **options
    )
    for name in ("auc", "accuracy", "loss", "rejection_b_at_0.5", "rejection_c_at_0.3"):
        assert found[name] == pytest.approx(many[name], rel=1e-5), name
