"""Augmentations against what they must keep, and what they must change at random."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from data.jets import Jets
from experiments.data.augmentations import AUGMENTATIONS, augment, draw
from experiments.data.preparation import Preparation
from lgatr import Packing

METRIC = torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64))


@pytest.fixture
def sample():
    """400 jets of four particles of different masses, close to an axis."""
    torch.manual_seed(0)
    direction = torch.randn(400, 1, 3, dtype=torch.float64)
    momenta = 50 * torch.nn.functional.normalize(direction, dim=2)
    momenta = momenta * torch.rand(400, 4, 1) + 5 * torch.randn(400, 4, 3)
    energy = (momenta.square().sum(2, keepdim=True) + torch.rand(400, 4, 1)).sqrt()
    p = torch.cat([energy, momenta], dim=2).reshape(-1, 4)
    return p, Packing.from_lengths([4] * 400)


def augmented(p, packing, names, seed):
    draws = draw(names, packing.num_events, torch.Generator().manual_seed(seed))
    return augment(p, packing, names, draws)


def changed(sample, name, seed=1):
    return augmented(*sample, [name], seed)


def by_jet(p):
    return p.reshape(400, 4, 4)


def products(p):
    return by_jet(p) @ METRIC @ by_jet(p).mT


def azimuth(p, axis):
    """Of the first particle about an axis, from a fixed direction."""
    north = torch.zeros_like(axis)
    north[:, 2] = 1
    x = torch.nn.functional.normalize(torch.linalg.cross(north, axis), dim=1)
    y = torch.linalg.cross(axis, x)
    first = by_jet(p)[:, 0, 1:]
    return torch.atan2((first * y).sum(1), (first * x).sum(1))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_invariants_of_each_jet_stay(sample, name):
    torch.testing.assert_close(products(changed(sample, name)), products(sample[0]))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_drawn_anew_from_the_generator_alone(sample, name):
    first = changed(sample, name)
    assert torch.equal(first, changed(sample, name))
    assert not torch.allclose(first, changed(sample, name, seed=2))


def test_rotation_about_jet(sample):
    before, after = by_jet(sample[0]), by_jet(changed(sample, "rotation_about_jet"))
    torch.testing.assert_close(after.sum(1), before.sum(1))
    torch.testing.assert_close(after[..., 0], before[..., 0])
    axis = torch.nn.functional.normalize(before.sum(1)[:, 1:], dim=1)
    turned = azimuth(after, axis) - azimuth(before, axis)
    assert stats.kstest((turned / (2 * math.pi)) % 1, "uniform").pvalue > 0.01


def test_rotation_about_beam(sample):
    before, after = by_jet(sample[0]), by_jet(changed(sample, "rotation_about_beam"))
    torch.testing.assert_close(after[..., [0, 3]], before[..., [0, 3]])
    angle = torch.atan2(after[..., 2], after[..., 1]) - torch.atan2(before[..., 2], before[..., 1])
    fraction = (angle / (2 * math.pi)) % 1
    assert stats.kstest(fraction[:, 0], "uniform").pvalue > 0.01
    torch.testing.assert_close(fraction, fraction[:, :1].expand(-1, 4), atol=1e-9, rtol=0)


def test_mirror_reflects_about_half_and_keeps_the_axis(sample):
    before, after = by_jet(sample[0]), by_jet(changed(sample, "mirror"))
    torch.testing.assert_close(after.sum(1), before.sum(1))
    torch.testing.assert_close(after[..., 3], before[..., 3])
    handedness = torch.linalg.det(after[:, :3, 1:]) / torch.linalg.det(before[:, :3, 1:])
    torch.testing.assert_close(handedness.abs(), torch.ones_like(handedness))
    assert 150 < int((handedness < 0).sum()) < 250


def test_boost_along_beam(sample):
    before, after = by_jet(sample[0]), by_jet(changed(sample, "boost_along_beam"))
    torch.testing.assert_close(after[..., 1:3], before[..., 1:3])
    shift = torch.atanh(after[..., 3] / after[..., 0]) - torch.atanh(
        before[..., 3] / before[..., 0]
    )
    torch.testing.assert_close(shift, shift[:, :1].expand(-1, 4), atol=1e-6, rtol=0)
    assert stats.kstest(shift[:, 0] + 0.5, "uniform").pvalue > 0.01


def test_masses_survive_float32(sample):
    p, packing = sample
    light = torch.cat([p[:, 1:].norm(dim=1, keepdim=True), p[:, 1:]], dim=1).float()
    names = ["rotation_about_jet", "mirror"]
    after = augmented(light, packing, names, seed=0).double()
    mass = (products(after) - products(light.double())).diagonal(dim1=1, dim2=2)
    assert float(mass.abs().max()) < 1e-6 * float(light.max()) ** 2


def jets(sample):
    p, packing = sample
    offsets = np.arange(401) * 4
    return Jets(p.float().numpy(), offsets, np.arange(400) % 2, "test")


def test_a_batch_is_changed_before_its_features_are_computed(sample):
    prepare = Preparation(["delta_eta", "log_energy"], 0, ["rotation_about_jet"], seed=3)
    batch, plain = prepare(jets(sample)), prepare.without_augmentations()(jets(sample))
    torch.testing.assert_close(batch.scalars[:, 1], plain.scalars[:, 1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(batch.scalars[:, 0], plain.scalars[:, 0], atol=0.1)
    again = Preparation(["delta_eta"], 0, ["rotation_about_jet"], seed=3)
    assert torch.equal(again(jets(sample)).fourmomenta, batch.fourmomenta)
    other = Preparation([], 0, ["rotation_about_jet"], seed=4)
    assert not torch.allclose(other(jets(sample)).fourmomenta, batch.fourmomenta)


def test_names_are_checked():
    with pytest.raises(ValueError, match="no augmentation spin; there are rotation_about_jet"):
        Preparation(augmentations=["spin"])
    with pytest.raises(ValueError, match="displacements d0 and dz"):
        Preparation(["displacements"], 0, ["mirror"])
    Preparation(["displacements"], 0, ["rotation_about_beam"])
