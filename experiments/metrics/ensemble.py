"""Ensembles of runs: taggers with the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.errors import UserError
from experiments.metrics.score_metrics import score_metrics
from experiments.metrics.scores import Scores
from experiments.saved_runs import run_directory


def ensemble_scores(parts: Sequence[Scores]) -> Scores:
    """Scores of the mean probability of taggers on the same jets.

    Raises
    ------
    ValueError
        If the jets differ.
    """
    first = parts[0]
    for other in parts[1:]:
        same = torch.equal(first.target, other.target) and first.logits.shape == other.logits.shape
        if not (same and torch.allclose(first.mass, other.mass, rtol=1e-3, atol=1e-2)):
            raise ValueError("the runs were tested on different jets and make no ensemble")
    logits = torch.stack([part.logits.double() for part in parts])
    if first.logits.dim() == 1:
        # The logit of the mean from logarithms of both probabilities, exact also near 0 and 1.
        signal, other_class = (
            torch.nn.functional.logsigmoid(sign * logits).logsumexp(dim=0) for sign in (1, -1)
        )
        mean = signal - other_class
    else:
        mean = logits.log_softmax(dim=-1).logsumexp(dim=0)
    return replace(first, logits=mean.float())


def ensemble_metrics(runs: Sequence[Path], task: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of the ensemble of runs, under their names in ``metrics.json``.

    Parameters
    ----------
    runs
        Folders of finished runs, tested on the same jets.
    task
        The configuration of their task: background class and efficiencies, if any.

    Raises
    ------
    UserError
        If the runs were tested on different jets.
    DataError
        If a run has no file of scores.
    """
    loaded = [Scores.load(run / run_directory.SCORES) for run in runs]
    if len({classes for _, classes in loaded}) > 1:
        raise UserError("the runs know different classes and make no ensemble")
    classes = loaded[0][1]
    try:
        scores = ensemble_scores([scores for scores, _ in loaded])
    except ValueError as error:
        raise UserError(str(error)) from error
    return score_metrics(scores, classes, task.get("background"), task.get("efficiencies"))
