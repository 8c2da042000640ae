"""Velocity fields: shapes, and their symmetry by transformations built without our algebra."""

from __future__ import annotations

import math

import pytest
import torch

from data.events.final_state import MUON_MASS, Cuts, FinalState
from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.flows.coordinates import PHI
from experiments.flows.state import FlowState
from experiments.models.velocity.plain import MLPField
from support.flows import PAIRS, field, fitted_flow, flow_events
from support.lorentz import random_transformation, rotation

FIELDS = ("lgatr_flow", "lgatr_slim_flow", "transformer_flow", "mlp_flow")
NONE = ("symmetry_breaking.beam_spurion=null", "symmetry_breaking.add_time_spurion=false")
TIME = ("symmetry_breaking.beam_spurion=null",)


def start(state=PAIRS, count=5):
    flow = fitted_flow(state)
    x = flow.coordinates.of(flow_events(state, count))
    return FlowState.at(torch.rand(count).double(), x, flow.coordinates)


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name):
    """Each event alone; time and every particle matter; a full turn does not."""
    net, given = field(name), start()
    found = net(given)
    assert found.shape == (5, 3, 4) and found.dtype == torch.float64
    alone = FlowState.at(given.time[2:3], given.x[2:3], given.coordinates)
    torch.testing.assert_close(net(alone), found[2:3])
    later = given._replace(time=given.time + 0.01)
    assert not torch.allclose(net(later), found, rtol=1e-4)
    x = given.x.clone()
    x[:, 1, PHI] += 2 * math.pi
    torch.testing.assert_close(net(FlowState.at(given.time, x, given.coordinates)), found)
    x[:, 2, 0] += 0.1
    moved = net(FlowState.at(given.time, x, given.coordinates))
    assert not torch.allclose(moved[:, 0], found[:, 0], rtol=1e-4)


@pytest.mark.parametrize("name", FIELDS)
def test_rotations_around_the_beam(name):
    """What reference vectors of beam and laboratory leave, and plain networks do not have."""
    net, given = field(name), start()
    x = given.x.clone()
    x[..., PHI] += 0.7
    turned = net(FlowState.at(given.time, x, given.coordinates))
    assert torch.allclose(turned, net(given), rtol=1e-6, atol=1e-8) == name.startswith("lgatr")


@pytest.mark.parametrize("name", ["lgatr_flow", "lgatr_slim_flow"])
@pytest.mark.parametrize("references", [NONE, TIME])
def test_velocities_of_momenta(name, references):
    """Vectors of the network, under all transformations, or the rotations that time leaves."""
    net, given = field(name, *references), start()
    seen = []
    net.velocity = lambda state, vectors, scalars: seen.append((vectors, scalars)) or vectors
    net(given)
    for transformation, holds in (
        (rotation(), True),
        (random_transformation(1.0), references == NONE),
    ):
        moved = given._replace(momenta=given.momenta @ transformation.T)
        net(moved)
        (vectors, scalars), (others, same) = seen[0], seen.pop()
        close = torch.allclose(others, vectors @ transformation.T, rtol=1e-6, atol=1e-8)
        assert close == holds
        assert torch.allclose(same, scalars, rtol=1e-6, atol=1e-8) == holds


@pytest.mark.parametrize("name", FIELDS)
def test_fixed_masses_do_not_move(name):
    state = FinalState(("mu-", "mu+", "j"), (MUON_MASS, MUON_MASS, None), Cuts(20.0, 0.4, 5.0))
    found = field(name, state=state)(start(state))
    assert (found[:, :2, 3] == 0).all() and (found[:, 2, 3] != 0).all()


@pytest.mark.parametrize("name", ["lgatr_unfolding", "lgatr_slim_unfolding"])
def test_fields_with_a_condition(name):
    """Each event its own condition, which is turned with the event around the beam."""
    net, given = field(name, conditional=True), start()
    given = given._replace(condition=flow_events(PAIRS, 5))
    found = net(given)
    assert found.shape == (5, 3, 4)
    alone = FlowState(*(x[2:3] for x in given[:3]), given.coordinates, given.condition[2:3])
    torch.testing.assert_close(net(alone), found[2:3])
    other = given._replace(condition=given.condition.flip(1))
    assert not torch.allclose(net(other), found, rtol=1e-4)
    x, (c, s) = given.x.clone(), (math.cos(0.7), math.sin(0.7))
    x[..., PHI] += 0.7
    turn = torch.eye(4, dtype=torch.float64)
    turn[1:3, 1:3] = torch.tensor([[c, -s], [s, c]])
    turned = given.condition @ turn.T
    moved = FlowState.at(given.time, x, given.coordinates, turned)
    torch.testing.assert_close(net(moved), found, rtol=1e-6, atol=1e-8)
    still = moved._replace(condition=given.condition)
    assert not torch.allclose(net(still), found, rtol=1e-4)
    with pytest.raises(UserError, match=r"set data\.conditional=true"):
        field(name)


@pytest.mark.parametrize("name", [*FIELDS, "autoregressive"])
def test_fields_without_a_condition_refuse_one(name):
    with pytest.raises(UserError, match="takes no conditions"):
        field(name, conditional=True)


def test_data_that_are_not_generated():
    with pytest.raises(UserError, match="generates events, and these data have classes a, b"):
        MLPField(DataSpec(0, ("a", "b")), 8, 2)
