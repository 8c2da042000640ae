"""Metrics of generated events, against closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, norm

from experiments.metrics.classifier_test import ClassifierTest, auc_with_error
from experiments.metrics.event_observables import features, members, observables
from experiments.metrics.generated import Generated
from experiments.metrics.generation_metrics import generation_metrics, tell_apart
from support.flows import PAIRS, flow_events

RESONANCES = {"W": ["q1", "q2"], "t": ["b1", "q1", "q2"]}
QUICK = ClassifierTest(folds=3, hidden_channels=32, num_layers=2, lr=3e-3, batch_size=256)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_a_classifier_of_shifted_normal_distributions(shift):
    """Its AUC is known, and it does not see what it scores."""
    random = np.random.default_rng(0)
    truth, made = random.normal(size=(2, 2000, 5))
    made[:, 2] += shift
    auc, error = auc_with_error(*QUICK.logits(truth, made))
    assert abs(auc - norm.cdf(shift / math.sqrt(2))) < 4 * error
    assert error == pytest.approx(0.009, rel=0.2)


def test_metrics():
    truth, made = flow_events(PAIRS, 400), flow_events(PAIRS, 400)
    made[:100, 0] *= 1.3
    ones = torch.ones(400, dtype=torch.float64)
    results = Generated(2 * ones, torch.tensor([1.0, 3.0]).double(), ones[:2], truth, made)
    told = tell_apart(results, PAIRS, RESONANCES, QUICK)
    found = generation_metrics(results, PAIRS, RESONANCES, told)
    assert len(told.weights(True)) == len(told.weights(False)) == 400
    assert found["weights_std"] == pytest.approx(float(told.logits[400:].double().exp().std()))
    assert found["loss"] == 2 and found["nll"] == 2 and found["nll_error"] == pytest.approx(1.0)
    assert found["cuts_passed"] == PAIRS.passed(made.numpy()).mean()
    assert 0.4 < found["classifier_auc"] < 1 and found["classifier_auc_error"] < 0.03
    w = (truth[:, 1] + truth[:, 2]).numpy()
    mass = np.sqrt(w[:, 0] ** 2 - (w[:, 1:] ** 2).sum(1))
    assert found["mass_W_data"] == pytest.approx(np.median(mass))
    name = found["largest_distance_of"]
    ours, theirs = (observables(x.numpy(), PAIRS, RESONANCES) for x in (made, truth))
    distances = {n: ks_2samp(ours[n][0], theirs[n][0]).statistic for n in ours}
    assert found["largest_distance"] == pytest.approx(max(distances.values()))
    assert distances[name] == max(distances.values())
    alone = Generated(2 * ones, ones[:0], ones[:0], truth[:0], made[:0])
    assert tell_apart(alone, PAIRS, RESONANCES, QUICK) is None
    assert generation_metrics(alone, PAIRS, RESONANCES, None)["nll"] is None


def test_features_are_symmetric_around_the_beam_where_they_should_be():
    p = flow_events(PAIRS, 30).numpy()
    rotated = p.copy()
    c, s = math.cos(0.8), math.sin(0.8)
    rotated[..., 1], rotated[..., 2] = c * p[..., 1] - s * p[..., 2], s * p[..., 1] + c * p[..., 2]
    one, other = (features(x, PAIRS, RESONANCES) for x in (p, rotated))
    same = np.isclose(one, other, rtol=1e-6, atol=1e-6).all(axis=0)
    # Cosines and sines of three azimuths; 3 particles, 3 pairs, 2 resonances beside them.
    assert (~same).sum() == 6 and len(same) == 5 * 3 + 3 + 2 * 3
    with pytest.raises(ValueError, match=r"task\.resonances\.W: no particle x"):
        members(PAIRS, {"W": ["x"]})
    with pytest.raises(ValueError, match=r"task\.resonances\.W: name the particles"):
        members(PAIRS, {"W": []})
