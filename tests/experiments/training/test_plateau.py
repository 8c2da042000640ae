"""The schedule that follows validations."""

from __future__ import annotations

import pytest
import torch

from experiments.training.schedules import Plateau


def schedule(patience=2, warmup=0, least=0.0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    options = {"factor": 0.5, "patience": patience, "warmup_steps": warmup, "least_fraction": least}
    return Plateau(optimizer, 1000, **options)


def rates(plateau, values):
    found = []
    for value in values:
        plateau.observe(value)
        plateau.optimizer.step()
        plateau.step()
        found.append(plateau.get_last_lr()[0])
    return found


def test_as_torch_does_it():
    """Torch's own schedule, which is stepped by validations."""
    values = [5.0, 4.0, 4.5, 4.2, 4.1, 3.9, 4.0, float("nan"), 3.95, 3.91, 3.8, 9, 9, 9, 9, 9, 9]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=0.0
    )
    wanted = []
    for value in values:
        theirs.step(value)
        wanted.append(theirs.get_last_lr()[0])
    assert rates(schedule(), values) == pytest.approx(wanted)
    assert wanted[-1] < 0.5


def test_warmup_and_least():
    plateau = schedule(warmup=4, least=0.25)
    assert plateau.get_last_lr() == [pytest.approx(0.2)]
    risen = rates(plateau, [5.0, 4.0, 3.0, 2.0, 1.0])
    assert risen == pytest.approx([0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates(plateau, [2.0] * 20)[-1] == 0.25


def test_it_goes_on_where_it_was():
    values = [3.0, 4.0, 4.0, 4.0, 2.0, 5.0, 5.0, 5.0, 5.0]
    whole = rates(schedule(), values)
    first, second = schedule(), schedule()
    start = rates(first, values[:5])
    second.load_state_dict(first.state_dict())
    assert start + rates(second, values[5:]) == whole
