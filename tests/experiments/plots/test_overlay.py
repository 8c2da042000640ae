"""Several runs in one plot, and efficiencies against spectra."""

from __future__ import annotations

import numpy as np
import torch

from experiments.metrics.scores import Scores
from experiments.plots import spectra
from experiments.plots.overlay import plot_rocs, plot_validations


def scores(seed, weighted=False):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(400) % 2
    logits = torch.randn(400, generator=generator) + 2.0 * target
    mass, pt, weight = torch.rand(3, 400, generator=generator).unbind(0)
    return Scores(logits, target, 200 * mass, 500 + 100 * pt, weight if weighted else None)


def test_plots_are_drawn(tmp_path):
    plot_rocs({"a": scores(1), "b": scores(2, weighted=True)}, tmp_path)
    plot_validations({"a": {10: 0.5, 20: 0.6}, "b": {10: 0.7}}, "AUC", False, tmp_path)
    spectra.plot_all(scores(3, weighted=True), ("a", "b"), tmp_path)
    for name in ("roc", "validations", "efficiency_pt", "efficiency_mass"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_quantities_that_are_not_known_are_left_out(tmp_path):
    """Scores of earlier versions have no transverse momenta."""
    old = scores(1)
    spectra.plot_all(
        Scores(old.logits, old.target, old.mass, torch.full_like(old.pt, torch.nan)), ("a", "b"),
        tmp_path,
    )  # fmt: skip
    assert sorted(p.stem for p in tmp_path.glob("*.png")) == ["efficiency_mass"]


def test_shares_of_bins_are_those_of_their_jets():
    values = np.arange(100, dtype=np.float32)
    passed = values % 4 == 0
    at, share, error = spectra._shares(values, passed, np.ones(100, np.float32), [0, 40, 99])
    np.testing.assert_allclose(at, [19.5, 69.5])
    np.testing.assert_allclose(share, [0.25, 0.25])
    np.testing.assert_allclose(error, [np.sqrt(0.1875 / 40), np.sqrt(0.1875 / 60)])
