"""Operations counted, and symmetries found, of networks for which both are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from experiments.cli import CONFIG_DIR
from experiments.data.batch import DataSpec, EventBatch
from experiments.training import results
from experiments.training.inspection import flops_per_event, last_events, symmetry
from lgatr import LGATr, Packing, embed_vector, extract_scalar


def batch(lengths=(4, 7, 2, 5)):
    torch.manual_seed(0)
    p = torch.randn(sum(lengths), 3)
    momenta = torch.cat([p.norm(dim=1, keepdim=True) + 0.1, p], dim=1)
    target = torch.arange(len(lengths)) % 2
    packing = Packing.from_lengths(lengths)
    return EventBatch(momenta, momenta.new_empty(len(p), 0), packing, target)


class PerParticle(torch.nn.Module):
    """20 outputs of 4 inputs, for each particle."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 20)

    def forward(self, events):
        return self.linear(events.fourmomenta)


class Tagger(torch.nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.net = LGATr(
            num_blocks=blocks, in_mv_channels=1, out_mv_channels=1, hidden_mv_channels=8,
            in_s_channels=0, out_s_channels=0, hidden_s_channels=16,
            attention={"num_heads": 2}, mlp={},
        )  # fmt: skip

    def forward(self, events):
        x = embed_vector(events.fourmomenta).unsqueeze(1)
        out, _ = self.net(x, packing=events.packing)
        first = events.packing.ptr[:-1].long()
        return extract_scalar(out)[first, 0]


def test_a_linear_layer():
    assert flops_per_event(PerParticle(), batch()) == 2 * 4 * 20 * 18 / 4


def test_matrix_products_of_a_network_are_counted():
    """Each block adds as many, and more than two for each of its weights and each particle."""
    two, three, four = (flops_per_event(Tagger(n), batch()) for n in (2, 3, 4))
    assert four - three == pytest.approx(three - two)
    weights = sum(p.numel() for p in Tagger(3).parameters() if p.dim() > 1)
    weights -= sum(p.numel() for p in Tagger(2).parameters() if p.dim() > 1)
    assert three - two > 2 * weights * 18 / 4


def test_symmetry():
    # In a shallow network nothing need have met a pseudoscalar, and parity holds as well.
    assert symmetry(Tagger(1), batch(), []).symmetry in ("O(1,3)", "SO+(1,3)")
    assert symmetry(PerParticle(), batch(), []).symmetry == "none"


def test_last_events():
    events = batch()
    last = last_events(events, 2)
    assert last.packing.lengths == (2, 5) and torch.equal(last.fourmomenta, events.fourmomenta[-7:])
    assert len(last_events(events, 9)) == 4


def test_last_events_keep_all_that_a_batch_holds():
    """Every slot that is filled in the batch is filled in the part of it."""
    plain = batch()
    condition, mass = torch.arange(24.0).view(4, 2, 3), torch.arange(4.0)
    events = EventBatch(
        plain.fourmomenta, plain.scalars, plain.packing, plain.target, condition, {"mass": mass}
    )
    last = last_events(events, 2)
    for name in EventBatch.__slots__:
        assert getattr(last, name) is not None, name
    assert torch.equal(last.condition, condition[-2:])
    assert torch.equal(last.columns["mass"], mass[-2:])


class ClassToken(torch.nn.Module):
    """A parameter is the input of a module, and gradients are turned on within."""

    def __init__(self):
        super().__init__()
        self.token = torch.nn.Parameter(torch.ones(1, 4))
        self.linear = torch.nn.Linear(4, 20)

    def forward(self, events):
        with torch.enable_grad():
            return self.linear(self.token) + self.linear(events.fourmomenta)


def test_class_tokens_and_gradients_within_are_counted():
    assert flops_per_event(ClassToken(), batch()) == 2 * 4 * 20 * (18 + 1) / 4


def test_the_particle_transformer_is_counted():
    pytest.importorskip("weaver")
    cfg = compose_model("part")
    model = instantiate(cfg.model)(spec=DataSpec(0, ("a", "b")))
    assert flops_per_event(model, batch()) > 1e6


def compose_model(name):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("run", overrides=[f"model={name}"])


@pytest.mark.parametrize("fails", ["flops_per_event", "symmetry"])
def test_each_is_measured_if_the_other_fails(fails, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("no")

    monkeypatch.setattr(results, fails, refuse)
    model = Tagger(1)
    task = SimpleNamespace(
        model=model, presented=lambda b: b, raw_outputs=model, has_invariant_outputs=True
    )
    data = SimpleNamespace(test_dataloader=lambda: [batch()], prepare=SimpleNamespace(features=()))
    what = "operations" if fails == "flops_per_event" else "symmetry"
    with pytest.warns(UserWarning, match=f"{what} could not be measured .AssertionError: no"):
        found = results._inspected(task, data, tmp_path, torch.device("cpu"))
    assert (found["flops_per_jet"] is None) == (fails == "flops_per_event")
    assert (found["symmetry"] is None) == (fails == "symmetry")
