"""Coordinates of events, against derivatives by torch and formulas written anew."""

from __future__ import annotations

import math

import pytest
import torch

from data.events.final_state import MUON_MASS, Cuts, FinalState
from experiments.flows.coordinates import PHI, Coordinates, wrapped
from experiments.flows.flow import Flow

JETS = FinalState(("a", "b", "c"), (None,) * 3, Cuts(22.0, 0.5, 5.0))
MUONS = FinalState(("mu-", "mu+", "j"), (MUON_MASS, MUON_MASS, None), Cuts(20.0, 0.4, 5.0))


def events(state, count=7):
    pt = torch.empty(count, 3, dtype=torch.float64).exponential_() * 60 + 25
    eta, phi = torch.randn(2, count, 3, dtype=torch.float64)
    mass = torch.rand(count, 3, dtype=torch.float64) * 20 + 2
    for i, fixed in enumerate(state.masses):
        if fixed is not None:
            mass[:, i] = fixed
    p = torch.stack([pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()], -1)
    return torch.cat([(mass**2 + (p**2).sum(-1)).sqrt()[..., None], p], -1)


def fitted(state, trajectories="coordinates"):
    flow = Flow(state, trajectories)
    flow.coordinates.fit(events(state, 500))
    return flow.coordinates


KINDS = pytest.mark.parametrize("trajectories", ["coordinates", "momenta"])
STATES = pytest.mark.parametrize("state", [JETS, MUONS])


@STATES
@KINDS
def test_there_and_back(state, trajectories):
    coordinates, p = fitted(state, trajectories), events(state)
    x = coordinates.of(p)
    torch.testing.assert_close(coordinates.momenta(x), p, rtol=1e-9, atol=1e-9)
    for i, mass in enumerate(state.masses):
        assert bool((x[:, i, 3] == 0).all()) == (mass is not None)


@STATES
def test_a_full_turn(state):
    coordinates, p = fitted(state), events(state)
    x = coordinates.of(p)
    turned = x.clone()
    turned[..., PHI] += 2 * math.pi
    torch.testing.assert_close(coordinates.momenta(turned), p, rtol=1e-9, atol=1e-7)


def test_standardised():
    coordinates = Coordinates([22.0] * 3, [None] * 3)
    p = events(JETS, 4000)
    coordinates.fit(p)
    x = coordinates.of(p)
    for component in (0, 2, 3):
        assert x[..., component].mean(0).abs().max() < 1e-9
        assert (x[..., component].std(0, correction=0) - 1).abs().max() < 1e-9
    phi = torch.atan2(p[..., 2], p[..., 1])
    torch.testing.assert_close(x[..., PHI], phi)


@STATES
@KINDS
def test_velocities_are_derivatives(state, trajectories):
    coordinates, p = fitted(state, trajectories), events(state)
    x, v = coordinates.of(p), torch.randn(7, 3, 4, dtype=torch.float64)
    v = coordinates.kept(v)
    _, of_momenta = torch.func.jvp(coordinates.momenta, (x,), (v,))
    torch.testing.assert_close(coordinates.velocity(p, of_momenta), v, rtol=1e-8, atol=1e-8)


@STATES
@KINDS
def test_volume(state, trajectories):
    """The determinant of the derivative, in plain columns."""
    coordinates, p = fitted(state, trajectories), events(state)
    x = coordinates.of(p)
    places = coordinates.is_free.flatten().nonzero()[:, 0]

    def plain(flat):
        full = torch.zeros(12, dtype=torch.float64).index_copy(0, places, flat).view(1, 3, 4)
        q = coordinates.momenta(full)[0]
        log_m2 = (q[:, 0] ** 2 - (q[:, 1:] ** 2).sum(1)).log()
        return torch.cat([q[:, 1:], log_m2[:, None]], 1).flatten()[
            torch.cat([torch.ones(3, 3, dtype=torch.bool), coordinates.is_free[:, 3:]], 1).flatten()
        ]

    for event, found in zip(x, coordinates.log_volume(x), strict=True):
        jacobian = torch.func.jacrev(plain)(event.flatten()[places])
        assert float(found) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), rel=1e-8)


def test_the_shorter_way_around():
    start, end = (torch.zeros(1, 1, 4, dtype=torch.float64) for _ in range(2))
    start[..., PHI], end[..., PHI] = 3.0, -3.0
    short = Coordinates([0.0], [None]).difference(end, start)[..., PHI]
    long = Coordinates([0.0], [None], periodic=False).difference(end, start)[..., PHI]
    assert float(short) == pytest.approx(2 * math.pi - 6) and float(long) == -6
    assert wrapped(torch.tensor([4.0, -4.0, 1.0])).tolist() == pytest.approx(
        [4 - 2 * math.pi, 2 * math.pi - 4, 1]
    )
