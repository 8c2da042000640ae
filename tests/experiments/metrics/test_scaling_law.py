"""Fitted laws against those that points were drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.errors import UserError
from experiments.metrics.scaling_law import ScalingLaw, fit

TRUE = ScalingLaw(0.37, 0.45, 2e3, 0.0, 0.0)
X = np.geomspace(1e4, 1e8, 9)


def test_exact_points_give_the_law():
    found = fit(X, TRUE(X), np.full(9, 1e-5))
    assert found.floor == pytest.approx(TRUE.floor, abs=1e-5)
    assert found.exponent == pytest.approx(TRUE.exponent, rel=1e-3)
    assert found.scale == pytest.approx(TRUE.scale, rel=1e-2)


def test_errors_are_those_of_many_trials():
    random, pulls = np.random.default_rng(1), []
    for _ in range(100):
        found = fit(X, TRUE(X) + random.normal(0, 1e-3, 9), np.full(9, 1e-3))
        pulls.append((found.floor - TRUE.floor) / found.floor_error)
    assert abs(np.mean(pulls)) < 0.4 and 0.7 < np.std(pulls) < 1.3


def test_too_few_values():
    with pytest.raises(UserError, match="at 4 or more different values, not 2"):
        fit([1, 2, 1, 2], [0.5, 0.4, 0.5, 0.4], [0.1] * 4)
