"""The maximal update parametrisation: what a step changes does not depend on the width."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.taggers import batch, build

SMALL = ("model.tagger.network.num_blocks=2", "optimizer.lr=0.01", "optimizer.weight_decay=0.1")


def wide(width, *options):
    return build("maximal_update", *SMALL, f"model.width={width}", *options)


def test_width_one_is_the_base():
    options = ("network.num_blocks=2",)
    base = build("lgatr_slim_small", *(f"model.{x}" for x in options)).state_dict()
    model = wide(1)
    for name, tensor in model.tagger.state_dict().items():
        assert torch.equal(tensor, base[name])
    (group,) = model.parameter_groups()
    assert (group["lr"], group["weight_decay"]) == (0.01, 0.1)


def test_learning_rates_by_what_grows():
    model = wide(4)
    rates = {id(p): g["lr"] for g in model.parameter_groups() for p in g["params"]}
    assert sorted(rates) == sorted(id(p) for p in model.parameters())
    for group in model.parameter_groups():
        assert group["lr"] * group["weight_decay"] == pytest.approx(0.001)
    network = model.tagger.network
    of = lambda parameter: rates[id(parameter)] / 0.01  # noqa: E731
    assert of(network.linear_in.weight_v) == 1
    assert of(network.linear_out.linear_s.weight) == 1 / 4
    hidden = [p for p in network.blocks.parameters() if p.ndim == 2]
    assert hidden and all(of(p) == 1 / 4 for p in hidden)
    assert all(of(p) == 1 for p in network.parameters() if p.ndim == 1)


def test_the_last_layer_starts_smaller():
    """Uniform in plus or minus 1 / sqrt(inputs), and once more smaller by sqrt(4)."""
    weight = wide(4).tagger.network.linear_out.linear_s.weight.detach()
    assert 0.9 < float(weight.abs().max()) * np.sqrt(weight.shape[1]) * 2 <= 1.0


@pytest.mark.parametrize(
    "tagger, grows",
    [
        (
            "lgatr_small",
            "[network.hidden_mv_channels,network.hidden_s_channels,network.attention.num_heads]",
        ),
        ("transformer_small", "[num_heads]"),
    ],
)
def test_other_networks(tagger, grows):
    model = build(
        "maximal_update", f"model@model.tagger={tagger}", f"model.grows={grows}", "model.width=3"
    )
    assert len({group["lr"] for group in model.parameter_groups()}) > 1
    with torch.no_grad():
        assert model(batch()).isfinite().all()


@pytest.mark.parametrize("name", ["network.nothing", "network", "network.hidden_v_channels.x"])
def test_what_cannot_grow(name):
    with pytest.raises(Exception, match=f"no whole number {name}; name its"):
        wide(2, f"model.grows=[{name}]")


def test_an_optimizer_without_weight_decay():
    model = build("maximal_update", "optimizer=adam", "model.width=2")
    assert all("weight_decay" not in group for group in model.parameter_groups())


def change(width, by_width):
    """Mean change of the logits by one step of Adam."""
    options = ("optimizer.lr=1e-4", "optimizer.weight_decay=0.0")
    model, events = wide(width, *options).train(), batch((5, 9, 7, 6, 8, 12), seed=1)
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    groups = model.parameter_groups() if by_width else model.parameters()
    optimizer = torch.optim.Adam(groups, lr=1e-4)
    before = model(events).detach()
    torch.nn.functional.cross_entropy(model(events), target).backward()
    optimizer.step()
    return float((model(events) - before).detach().abs().mean())


def test_coordinates():
    """Changes grow with the width at one learning rate for all, and not at ours."""
    widths = (1, 2, 4, 8)

    def slope(by_width):
        sizes = [change(width, by_width) for width in widths]
        return np.polyfit(np.log(widths), np.log(sizes), 1)[0]

    maximal, standard = slope(True), slope(False)
    assert abs(maximal) < 0.2, maximal
    assert standard > 0.6, standard
