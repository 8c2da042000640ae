"""All metrics of the scores of a sample, for any number of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.data.batch import absent_classes
from experiments.errors import UserError
from experiments.metrics.calibration import expected_calibration_error
from experiments.metrics.incomplete import incomplete_metrics
from experiments.metrics.multiclass import multiclass_metrics
from experiments.metrics.scores import Scores
from experiments.metrics.tagging import tagging_metrics


def score_metrics(
    scores: Scores,
    classes: Sequence[str],
    background: str | None = None,
    efficiencies: Mapping[str, float] | None = None,
    allow_absent: bool = False,
) -> dict[str, Any]:
    """Compute accuracy, AUC, loss, rejections and calibration error, under their names in results.

    Parameters
    ----------
    scores
        Scores of a whole sample.
    classes
        Names of the classes in the order of their labels.
    background, efficiencies
        For more than two classes: see :func:`~experiments.metrics.multiclass.multiclass_metrics`.
    allow_absent
        Whether the sample may have no jets of some class. Metrics that are then undefined are
        None, and ``undefined`` says why.

    Raises
    ------
    UserError
        If a class is absent, a score is not finite, or there is no class of a given name.
    """
    found: dict[str, Any]
    absent = absent_classes(scores.target, tuple(classes))
    try:
        if absent and allow_absent:
            found = dict(incomplete_metrics(scores.logits, scores.target, scores.weight))
            found["undefined"] = f"AUC and rejections: no jets of {', '.join(absent)}"
        elif scores.logits.dim() == 1:
            found = dict(tagging_metrics(scores.logits, scores.target, scores.weight))
        else:
            found = dict(
                multiclass_metrics(
                    scores.logits, scores.target, classes, background, efficiencies, scores.weight
                )
            )
    except ValueError as error:
        raise UserError(str(error)) from error
    found["calibration_error"] = expected_calibration_error(
        scores.probability, scores.as_predicted, weight=scores.weight
    )
    return found
