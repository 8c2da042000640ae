"""The distribution that flows start from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from data.events.final_state import Cuts, FinalState
from experiments.errors import UserError
from experiments.flows.base import BaseDistribution


def fitted(state, rejects=True, size=60.0):
    base = BaseDistribution(state, rejects)
    p = size * torch.randn(4000, len(state.names), 3, dtype=torch.float64)
    mass = (3 + torch.randn(4000, len(state.names), 1, dtype=torch.float64)).exp()
    base.fit(torch.cat([(mass + (p**2).sum(-1, keepdim=True)).sqrt(), p], -1))
    return base


def test_one_jet_above_a_cut():
    """Share and density of a two-dimensional normal distribution without its middle."""
    base = fitted(FinalState(("j",), (None,), Cuts(30.0, 0.0, 1e9)))
    width = float(base.widths[0, 0])
    share = math.exp(-(30.0**2) / (2 * width**2))
    assert float(base.log_acceptance) == pytest.approx(math.log(share), abs=3e-3)
    p = base.sample(range(500), 1)
    assert (torch.hypot(p[..., 1], p[..., 2]) > 30).all()
    normal = torch.distributions.Normal(torch.zeros(3).double(), base.widths[0])
    m2 = p[..., 0] ** 2 - (p[..., 1:] ** 2).sum(-1)
    of_mass = torch.distributions.Normal(base.mass_mean[0], base.mass_width[0])
    wanted = normal.log_prob(p[:, 0, 1:]).sum(1) + of_mass.log_prob(m2[:, 0].log())
    torch.testing.assert_close(base.log_density(p), wanted - base.log_acceptance)


def test_cuts():
    state = FinalState(("a", "b"), (None, None), Cuts(20.0, 1.0, 2.0))
    drawn = fitted(state).sample(range(300), 1).numpy()
    assert state.passed(drawn).all()
    loose = fitted(state, rejects=False)
    assert not state.passed(loose.sample(range(300), 1).numpy()).all()
    many = fitted(state).drawn_within_cuts(np.random.default_rng(0), 1000)
    assert len(many) == 1000 and state.passed(many).all()
    with pytest.raises(UserError, match="pass them"):
        fitted(FinalState(("a", "b"), (None, None), Cuts(400.0, 0.0, 5.0)))


def test_events_are_their_own():
    """The same event in whichever batch, and another one for another seed."""
    base = fitted(FinalState(("a", "b"), (None, None), Cuts(20.0, 0.5, 5.0)))
    whole = base.sample(range(20), 3)
    assert torch.equal(base.sample([7, 3], 3), whole[[7, 3]])
    assert not torch.isclose(base.sample(range(20), 4), whole).any(0).all()
    assert len(torch.unique(whole[:, 0, 0])) == 20


def test_a_fixed_mass():
    state = FinalState(("m", "j"), (91.0, None), Cuts(20.0, 0.0, 5.0))
    p = fitted(state).sample(range(50), 1)
    mass = (p[:, 0, 0] ** 2 - (p[:, 0, 1:] ** 2).sum(-1)).sqrt()
    assert (mass - 91).abs().max() < 1e-9
