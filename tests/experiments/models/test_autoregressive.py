"""The causal generator: what depends on what, its densities, and its cache."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from data.events.final_state import MUON_MASS, Cuts, FinalState
from support.flows import PAIRS, field

MUONS = FinalState(("mu-", "mu+", "j"), (MUON_MASS, MUON_MASS, None), Cuts(20.0, 0.4, 5.0))


def net(state=PAIRS):
    options = ("num_blocks=2", "mixtures=3", "num_heads=2", "head_width=8")
    found = field("autoregressive", *options, state=state)
    with torch.no_grad():  # far from one distribution for all
        found.head.weight *= 10
    return found


def test_only_what_comes_before_matters():
    model, values = net(), torch.randn(4, 12).double()
    found = model(values)
    for place in (0, 5, 11):
        changed = values.clone()
        changed[:, place] += 0.3
        same = torch.isclose(model(changed), found, rtol=1e-9).all(-1).all(0)
        assert same[: place + 1].all() and not same[place + 1 :].any()
    torch.testing.assert_close(model(values[2:3]), found[2:3])


@pytest.mark.parametrize("place", [0, 1])
@torch.no_grad()
def test_densities_sum_to_one(place):
    """A number, over the line; an angle, over the circle, also for wide distributions."""
    model = net()
    parameters = model(torch.randn(1, 12).double())
    wide = math.pi if place == 1 else 60.0
    grid = torch.linspace(-wide, wide, 20001, dtype=torch.float64)[:-1]
    values = torch.zeros(len(grid), 12, dtype=torch.float64)
    values[:, place] = grid
    density = model.log_density(parameters.expand(len(grid), -1, -1), values)[:, place].exp()
    assert float(density.sum() * (grid[1] - grid[0])) == pytest.approx(1, abs=1e-4)
    values[:, place] += 2 * math.pi
    again = model.log_density(parameters.expand(len(grid), -1, -1), values)[:, place].exp()
    assert torch.allclose(again, density) == (place == 1)


@pytest.mark.parametrize("state", [PAIRS, MUONS])
@torch.no_grad()
def test_generated_by_the_cache_as_by_the_whole(state):
    """The same numbers, from parameters of one pass over all coordinates."""
    model = net(state)
    values = model.generate(range(5), 3)
    assert values.shape == (5, 12 if state is PAIRS else 10)
    assert (values[:, 1].abs() <= math.pi).all()
    parameters = model(values)
    for event in range(5):
        random = np.random.Generator(np.random.Philox(key=[3, event]))
        uniform = torch.from_numpy(random.random((values.shape[1], 2)))
        drawn = model._drawn(parameters[event], uniform)
        difference = drawn - values[event]
        difference = torch.where(
            model.is_angle, torch.remainder(difference + 1, 2 * math.pi) - 1, difference
        )
        assert difference.abs().max() < 1e-6
    torch.testing.assert_close(model.generate([4, 2], 3), values[[4, 2]])
    assert not torch.allclose(model.generate(range(5), 4), values)


@torch.no_grad()
def test_what_is_drawn_follows_the_density():
    """Shares of draws below a place, and the integral of the density up to there."""
    model = net()
    parameters = model(torch.zeros(1, 12).double())[:, 0]
    uniform = torch.rand(20000, 2, dtype=torch.float64)
    drawn = model._drawn(parameters.expand(20000, -1), uniform)
    weights, means, widths = (x[0] for x in model._mixture(parameters))
    for place in torch.quantile(drawn, torch.tensor([0.1, 0.5, 0.9]).double()):
        below = (weights.exp() * torch.special.ndtr((place - means) / widths)).sum()
        assert float((drawn < place).double().mean()) == pytest.approx(float(below), abs=0.015)


def test_fixed_masses_are_left_out():
    model = net(MUONS)
    x = torch.randn(3, 3, 4).double()
    assert model.free(x).shape == (3, 10)
    whole = model.whole(model.free(x), 3)
    assert (whole[:, :2, 3] == 0).all() and torch.equal(whole[:, 2], x[:, 2])
