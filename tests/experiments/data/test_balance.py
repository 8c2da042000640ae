"""Weights that balance classes and flatten spectra, against sums over jets."""

from __future__ import annotations

import numpy as np
import pytest

from data.errors import DataError
from data.jets import Jets
from experiments.data.balance import Balance, observable, own_weights

JETS = 4000


def sample(seed=1, weights=False):
    """Jets of two particles, with falling spectra that differ between classes."""
    random = np.random.default_rng(seed)
    labels = (random.random(JETS) < 0.2).astype(np.int64)
    pt = np.where(labels, random.exponential(80, JETS), random.exponential(40, JETS)) + 500
    phi, eta, opening = (
        random.uniform(-3, 3, JETS),
        random.normal(0, 1, JETS),
        random.uniform(0, 0.6, JETS),
    )
    p = np.zeros((JETS, 2, 4))
    for i, side in enumerate((-1, 1)):
        angle = phi + side * opening / 2
        part = pt / 2 / np.cos(opening / 2)
        p[:, i] = np.stack(
            [part * np.cosh(eta), part * np.cos(angle), part * np.sin(angle), part * np.sinh(eta)],
            1,
        )
    columns = {"weight": random.uniform(0.5, 2, JETS).astype(np.float32)} if weights else {}
    offsets = 2 * np.arange(JETS + 1)
    return Jets(
        p.reshape(-1, 4).astype(np.float32), offsets, labels, "x", ("a", "b"), {}, columns
    ), pt


def test_observables():
    jets, pt = sample()
    np.testing.assert_allclose(observable(jets, "pt"), pt, rtol=1e-5)
    p = jets.constituents.astype(float).reshape(JETS, 2, 4)
    inner = p[:, 0, 0] * p[:, 1, 0] - (p[:, 0, 1:] * p[:, 1, 1:]).sum(1)
    np.testing.assert_allclose(observable(jets, "mass") ** 2, 2 * inner, rtol=1e-3, atol=5)
    with pytest.raises(DataError, match="its jets have no tau, only eta, mass, pt"):
        observable(jets, "tau")


@pytest.mark.parametrize("weights", [False, True])
def test_classes_are_balanced(weights):
    jets, _ = sample(weights=weights)
    found = Balance(classes=True).fit(jets).of(jets)
    sums = [found[jets.labels == label].sum() for label in (0, 1)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-5) and found.mean() == pytest.approx(
        1, rel=1e-5
    )
    ratio = found / own_weights(jets)
    for label in (0, 1):
        assert np.ptp(ratio[jets.labels == label]) < 1e-6


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_spectra_are_flat_for_every_class(classes, weights):
    jets, pt = sample(weights=weights)
    edges = {"pt": [500, 530, 570, 650], "mass": [0, 60, 120, 400]}
    found = Balance(classes, edges).fit(jets).of(jets)
    mass = observable(jets, "mass")
    inside = (pt < 650) & (mass < 400)
    assert not found[~inside].any()
    total = []
    for label in (0, 1):
        mine = inside & (jets.labels == label)
        sums, *_ = np.histogram2d(
            pt[mine], mass[mine], (edges["pt"], edges["mass"]), weights=found[mine]
        )
        filled = sums > 0
        np.testing.assert_allclose(sums[filled], sums[filled][0], rtol=1e-3)
        total.append(sums.sum())
    own = own_weights(jets)
    expected = (
        1
        if classes
        else own[inside & (jets.labels == 1)].sum() / own[inside & (jets.labels == 0)].sum()
    )
    assert total[1] / total[0] == pytest.approx(expected, rel=1e-3)


def test_other_jets_of_the_same_kind_are_flat_within_errors():
    """The histogram is of one sample, the jets of another."""
    edges = {"pt": [500, 520, 540, 560, 600]}
    weights = Balance(True, edges).fit(sample(1)[0])
    jets, pt = sample(2)
    found = weights.of(jets)
    for label in (0, 1):
        mine = jets.labels == label
        count, _ = np.histogram(pt[mine], edges["pt"])
        sums, _ = np.histogram(pt[mine], edges["pt"], weights=found[mine])
        pulls = (sums / sums.mean() - 1) / np.sqrt(2 / count)
        assert np.abs(pulls).max() < 4


def test_weights_are_capped():
    jets, _ = sample()
    edges = {"pt": np.linspace(500, 900, 20).tolist()}
    free = Balance(True, edges).fit(jets).of(jets)
    capped = Balance(True, edges, largest=3.0).fit(jets).of(jets)
    for label in (0, 1):
        mine = (jets.labels == label) & (free > 0)
        most = 3 * free[mine].mean()
        assert free[mine].max() > most
        expected = np.minimum(free[mine], most)
        np.testing.assert_allclose(
            capped[mine] / capped[mine][0], expected / expected[0], rtol=1e-5
        )


def test_mistakes_are_named():
    jets, _ = sample()
    with pytest.raises(DataError, match=r"data\.balance\.flatten\.pt: two or more edges"):
        Balance(flatten={"pt": [1]})
    with pytest.raises(DataError, match="that rise are wanted"):
        Balance(flatten={"pt": [1, 2, 2]})
    with pytest.raises(DataError, match="no jet of a lies in the bins"):
        Balance(flatten={"pt": [1e5, 2e5]}).fit(jets)
    with pytest.warns(UserWarning, match="lie outside of the bins"):
        Balance(flatten={"pt": [500, 510]}).fit(jets)
    bad = sample(weights=True)[0]
    bad.jets["weight"][3] = np.nan
    with pytest.raises(DataError, match="jet 3 has the weight nan"):
        Balance(True).fit(bad)
    bad.jets["weight"][:] = 0
    with pytest.raises(DataError, match="weights of its jets have the sum 0"):
        Balance(True).fit(bad)
