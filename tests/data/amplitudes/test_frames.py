"""Frames of amplitudes: boosts and rotations against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from data.amplitudes import frames
from data.amplitudes.phase_space import Cuts
from data.amplitudes.processes import PROCESSES, generate

METRIC = np.diag([1.0, -1.0, -1.0, -1.0])


@pytest.fixture
def random():
    return np.random.default_rng(1)


def events(process="zg", count=50):
    (found,) = generate(PROCESSES[process], count, 1, (500.0, 600.0), Cuts(20.0, 0.4))
    return found


def masses(momenta):
    return momenta[..., 0] ** 2 - (momenta[..., 1:] ** 2).sum(-1)


def test_boosts_are_exponentials_of_generators(random):
    """Signs, gamma for gamma minus one, velocity for rapidity."""
    direction = random.normal(size=(20, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    rapidity = random.uniform(0, 2, 20)
    found = frames.boosts(np.tanh(rapidity)[:, None] * direction)
    for n, eta, matrix in zip(direction, rapidity, found, strict=True):
        generator = np.zeros((4, 4))
        generator[0, 1:] = generator[1:, 0] = eta * n
        np.testing.assert_allclose(matrix, expm(generator), rtol=1e-12, atol=1e-12)


def test_rotations_are_orthogonal_and_uniform(random):
    """Reflections; a direction that is preferred."""
    found = frames.rotations(20_000, random)
    np.testing.assert_allclose(
        found @ found.transpose(0, 2, 1), np.broadcast_to(np.eye(4), found.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(found), 1.0, atol=1e-12)
    assert (found[:, 0, 0] == 1).all() and not found[:, 0, 1:].any()
    # Of uniform ones the means of matrix elements are 0, of their squares 1/3.
    assert np.abs(found[:, 1:, 1:].mean(0)).max() < 0.02
    assert np.abs((found[:, 1:, 1:] ** 2).mean(0) - 1 / 3).max() < 0.02


def test_energies_of_files_in_single_precision(random):
    exact = events().momenta
    rounded = exact.astype(np.float32).astype(np.float64)
    found = frames.on_shell(rounded, PROCESSES["zg"].masses)
    assert np.array_equal(found[..., 1:], rounded[..., 1:])
    np.testing.assert_allclose(masses(found), masses(exact), atol=1e-4)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-4)


def test_at_rest(random):
    sample = events()
    moved = frames.in_random_frames(sample.momenta, 0.15, random)
    back = frames.at_rest(moved)
    scale = sample.momenta[..., 0].max()
    assert np.abs(back[:, :2].sum(1)[:, 1:]).max() < 1e-11 * scale
    np.testing.assert_allclose(masses(back), masses(sample.momenta), atol=1e-11 * scale**2)
    np.testing.assert_allclose(frames.at_rest(back), back, atol=1e-11 * scale)


@pytest.mark.parametrize("process", ["zg", "ggggg"])
def test_amplitudes_are_those_of_every_frame(process, random):
    sample = events(process, 20)
    moved = frames.in_random_frames(sample.momenta, frames.MOST, random)
    assert np.abs(moved - sample.momenta).max() > 10
    found = PROCESSES[process].squared_amplitude(moved)
    np.testing.assert_allclose(found, sample.amplitudes, rtol=1e-8)


def test_velocities_are_cut(random):
    """A frame faster than light."""
    rest = np.zeros((50_000, 1, 4))
    rest[..., 0] = 1.0
    moved = frames.in_random_frames(rest, frames.MOST, random)[:, 0]
    velocity = moved[:, 1:] / moved[:, :1]
    assert np.abs(velocity).max() <= 3 * frames.MOST + 1e-12
    assert np.abs(velocity.std(0) - 0.9866 * frames.MOST).max() < 0.01 * frames.MOST
