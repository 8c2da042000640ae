"""Flows and velocity fields for tests."""

from __future__ import annotations

from functools import cache

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from data.events.final_state import Cuts, FinalState
from experiments.cli import CONFIG_DIR
from experiments.data.batch import DataSpec
from experiments.flows.flow import Flow

PAIRS = FinalState(("b1", "q1", "q2"), (None,) * 3, Cuts(20.0, 0.3, 5.0))


def momenta(state, count, size=60.0):
    """Events of independent particles."""
    particles = len(state.names)
    p = size * torch.randn(count, particles, 3, dtype=torch.float64)
    m2 = (3 + torch.randn(count, particles, 1, dtype=torch.float64)).exp()
    for i, mass in enumerate(state.masses):
        if mass is not None:
            m2[:, i] = mass**2
    return torch.cat([(m2 + (p**2).sum(-1, keepdim=True)).sqrt(), p], -1)


@cache
def fitted_flow(state) -> Flow:
    """Made once: the share of events that pass the cuts takes seconds to measure."""
    torch.manual_seed(0)
    flow = Flow(state)
    flow.fit(flow_events(state, 4000))
    return flow


def flow_events(state, count):
    """Such that pass the cuts."""
    found = momenta(state, 20 * count)
    return found[torch.from_numpy(state.passed(found.numpy()))][:count]


def field(model, *options, state=PAIRS, conditional=False):
    """A velocity field of the configuration, in float64."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        overrides = [f"model={model}", *(f"model.{option}" for option in options)]
        cfg = compose("run", ["experiment=ttbar", *overrides, "attention=native"])
    spec = DataSpec(0, final_state=state, conditional=conditional)
    return instantiate(cfg.model)(spec=spec).double()
