"""Jets of which a tagger was most wrong."""

from __future__ import annotations

import numpy as np
import torch

from experiments.metrics.scores import Scores
from experiments.plots import displays
from support.taggers import batch


def test_they_are_those_with_the_largest_loss(tmp_path):
    events = batch((3, 1, 7, 2, 5, 4, 6, 8))
    target = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    logits = torch.tensor([3.0, -4.0, 0.1, 2.0, -1.0, 0.5, 5.0, -0.2])
    scores = Scores(logits, target, torch.ones(8), torch.ones(8))
    worst = displays.joined(displays.worst_of(scores, events))
    assert [round(d.loss, 2) for d in worst[:3]] == [5.01, 4.02, 3.05]
    assert [len(d.momenta) for d in worst[:3]] == [6, 1, 3] and worst[0].target == 0
    assert len(worst) == displays.MOST
    displays.plot_displays(worst, ("a", "b"), tmp_path)
    assert (tmp_path / "most_wrong.png").stat().st_size > 1000
    displays.plot_displays([], ("a", "b"), tmp_path / "nowhere")


def test_several_classes():
    scores = Scores(
        torch.eye(4)[:, :3] * 5, torch.tensor([0, 0, 2, 1]), torch.ones(4), torch.ones(4)
    )
    worst = displays.joined(displays.worst_of(scores, batch((3, 1, 7, 2))))
    assert worst[0].target == 0 and len(worst[0].momenta) == 1


def test_directions_are_from_the_axis():
    """A particle along the jet is at zero; azimuths do not jump."""
    angle = np.pi - 0.1
    p = np.array([[1, np.cos(a), np.sin(a), 0] for a in (angle, angle + 0.3)])
    eta, phi, pt = displays.around_axis(p.astype(np.float32))
    np.testing.assert_allclose(phi, [-0.15, 0.15], atol=1e-5)
    np.testing.assert_allclose(eta, 0, atol=1e-6)
    np.testing.assert_allclose(pt, 1, rtol=1e-6)
