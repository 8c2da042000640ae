"""Results of a sample are written in the order of the data, whatever the order of batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.data.sampler import BatchSampler
from experiments.metrics.further import Further
from experiments.metrics.generated import Generated
from experiments.metrics.predictions import Predictions
from experiments.metrics.scores import Scores

LENGTHS = np.random.default_rng(0).integers(1, 9, 41)


@pytest.mark.parametrize("processes", [1, 3])
def test_rows_are_those_of_all_batches(processes):
    parts = [BatchSampler(LENGTHS, 5, 20, False, 0, r, processes) for r in range(processes)]
    brought = np.concatenate([batch for part in parts for batch in part.batches()])
    assert np.array_equal(parts[0].rows(), brought)
    assert sorted(brought) == list(range(len(LENGTHS)))


def test_every_value_moves_with_its_event():
    rows = torch.randperm(7)
    values = rows.double()
    scores = Scores(values.float(), rows, values, values + 1)
    further = Further(scores, {"x": values[:, None]}, {"x": values})
    predictions = Predictions(values, values)
    made = Generated(values, torch.ones(3), torch.ones(3), values[:, None, None], values)
    found = further.in_order(rows)
    for tensor in (
        found.scores.logits, found.scores.target, found.scores.pt - 1, found.predicted["x"][:, 0],
        found.true["x"], predictions.in_order(rows).predicted, made.in_order(rows).truth[:, 0, 0],
    ):  # fmt: skip
        assert tensor.tolist() == list(range(7))
    assert predictions.in_order(rows).sigma is None and len(made.in_order(rows).nll) == 3
