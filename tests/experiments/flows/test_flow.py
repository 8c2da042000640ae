"""Flows of fields whose solutions are known."""

from __future__ import annotations

import math

import pytest
import torch

from data.events.final_state import Cuts, FinalState
from experiments.flows.flow import Flow
from experiments.flows.ode import METHODS, Solver
from support.flows import fitted_flow

STATE = FinalState(("a", "b"), (None, None), Cuts(20.0, 0.0, 1e9))
RK4 = Solver("rk4", 0.05)


@pytest.fixture
def flow() -> Flow:
    return fitted_flow(STATE)


def linear(matrix):
    """A field with the solution x(1) = exp(matrix) x(0), of which phi does not move."""

    def field(state):
        return (state.x.flatten(1) @ matrix.T).unflatten(1, (2, 4))

    return field


def still(matrix):
    for place in (1, 5):
        matrix[place] = matrix[:, place] = 0.0
    return matrix


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_likelihood_of_a_linear_field(flow, trace):
    """By the matrix exponential, and the density of the base by formulas written anew."""
    matrix = 0.3 * torch.randn(8, 8, dtype=torch.float64)
    if trace == "hutchinson":
        matrix = torch.diag(matrix.diagonal())  # for which signs give the trace without noise
    matrix = still(matrix)
    p = flow.base.sample(range(5), 1)
    found, _ = flow.log_density(linear(matrix), p, RK4, trace)

    end = flow.coordinates.of(p)
    start = (end.flatten(1) @ torch.linalg.matrix_exp(-matrix).T).view(5, 2, 4)
    y = start * flow.coordinates.std + flow.coordinates.mean
    pt, eta, log_m2 = 20 + y[..., 0].exp(), y[..., 2], y[..., 3]
    widths = flow.base.widths
    normal = torch.distributions.Normal(0.0, widths)
    spatial = torch.stack([pt * y[..., 1].cos(), pt * y[..., 1].sin(), pt * eta.sinh()], -1)
    of_mass = torch.distributions.Normal(flow.base.mass_mean, flow.base.mass_width)
    density = normal.log_prob(spatial).sum((1, 2)) + of_mass.log_prob(log_m2).sum(1)
    # Both transverse momenta are above the cut with this probability.
    density = density + (20.0**2 / (2 * widths[:, 0] ** 2)).sum()
    volume = (2 * pt.log() + y[..., 0] + eta.cosh().log()).sum(1)
    wanted = density + volume - matrix.trace()
    torch.testing.assert_close(found, wanted, rtol=0, atol=3e-3)
    # All but the measured share of the base is exact.
    exact = found - wanted
    torch.testing.assert_close(exact, exact.mean().expand(5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_transport(flow, method):
    matrix = still(0.5 * torch.randn(8, 8, dtype=torch.float64))
    solver = Solver(method, 0.002 if method == "euler" else 0.02, 1e-7)
    made = flow.generate(linear(matrix), range(4), 5, solver)
    start = flow.coordinates.of(flow.base.sample(range(4), 5))
    wanted = (start.flatten(1) @ torch.linalg.matrix_exp(matrix).T).view(4, 2, 4)
    wanted = flow.coordinates.momenta(wanted)
    torch.testing.assert_close(made, wanted, rtol=2e-2 if method == "euler" else 2e-3, atol=1e-2)


def test_the_density_sums_to_one(flow):
    """By importance sampling from another flow that is near, so that weights are."""
    one, other = (still(0.05 * torch.randn(8, 8, dtype=torch.float64)) for _ in range(2))
    made = flow.generate(linear(one), range(4000), 1, RK4)
    mine, _ = flow.log_density(linear(one), made, RK4)
    theirs, inside = flow.log_density(linear(other), made, RK4)
    weights = (theirs - mine).exp() * inside
    error = float(weights.std()) / math.sqrt(len(weights))
    assert abs(float(weights.mean()) - 1) < 4 * error + 0.02


def test_trajectories_are_straight(flow):
    p = flow.base.sample(range(6), 9)
    time, x, velocity = flow.matched(p, 3)
    again = flow.matched(p, 3)
    assert all(torch.equal(a, b) for a, b in zip((time, x, velocity), again, strict=True))
    end = x + (1 - time)[:, None, None] * velocity
    torch.testing.assert_close(flow.coordinates.momenta(end), p, rtol=1e-6, atol=1e-6)
    start = flow.coordinates.momenta(x - time[:, None, None] * velocity)
    assert STATE.passed(start.numpy()).all()
    assert velocity[..., 1].abs().max() <= math.pi
    assert not torch.equal(time, flow.matched(p, 4)[0])
