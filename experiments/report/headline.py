"""The one figure of a run that curves show: which, and how it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Headline(NamedTuple):
    """A figure of merit.

    Parameters
    ----------
    name
        In ``metrics.json``.
    logged, logged_label
        Of validations, in the logs; and for axes.
    label
        For axes.
    small
        Whether it is small for good networks.
    logarithmic
        Whether axes are.
    span
        How far below the best value curves are shown; None for all of them.
    columns
        Of tables without published rows.
    """

    name: str
    logged: str
    logged_label: str
    label: str
    small: bool
    logarithmic: bool
    span: float | None
    columns: tuple[str, ...]


AUC = Headline(
    "auc", "auc", "AUC", "AUC", small=False, logarithmic=False, span=0.025,
    columns=("accuracy", "auc", "rejection_at_0.5", "rejection_at_0.3"),
)  # fmt: skip
MSE = Headline(
    "mse_times_1e5", "mse", "MSE", "MSE \u00d7 $10^5$", small=True, logarithmic=True, span=None,
    columns=("mse_times_1e5", "median_relative_error", "within_1_percent", "within_10_percent"),
)  # fmt: skip
NLL = Headline(
    "nll", "nll", "negative log-likelihood", "negative log-likelihood", small=True,
    logarithmic=False, span=None,
    columns=("nll", "classifier_auc", "largest_distance"),
)  # fmt: skip
HEADLINES = (AUC, MSE, NLL)


def headline(results: Mapping[str, Any]) -> Headline:
    """The figure that results have; AUC if none."""
    return next((h for h in HEADLINES if h.name in results), AUC)
