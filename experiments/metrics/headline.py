"""The one figure of merit of a run, which tables, curves and searches go by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType
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

    def noted(self) -> dict[str, Any]:
        """What ``metrics.json`` holds of it."""
        return {**self._asdict(), "columns": list(self.columns)}

    @classmethod
    def read(cls, found: Any) -> Headline | None:
        """What :meth:`noted` made, or None for anything else."""
        if not (isinstance(found, dict) and found.keys() == set(cls._fields)):
            return None
        texts = [found[name] for name in ("name", "logged", "logged_label", "label")]
        small, logarithmic = found["small"], found["logarithmic"]
        span, columns = found["span"], found["columns"]
        is_right = (
            all(isinstance(text, str) and text for text in texts)
            and isinstance(small, bool)
            and isinstance(logarithmic, bool)
            and (span is None or (isinstance(span, float) and 0 < span < math.inf))
            and isinstance(columns, list)
            and all(isinstance(column, str) and column for column in columns)
        )
        if not is_right:
            return None
        name, logged, *labels = texts
        logged_label, label = (text.replace("$", r"\$") for text in labels)
        return cls(name, logged, logged_label, label, small, logarithmic, span, tuple(columns))


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
"""Those of runs whose ``metrics.json`` does not tell: earlier versions did not write it."""


def headline(results: Mapping[str, Any]) -> Headline:
    """The figure of merit of a run, from its ``metrics.json``; AUC if nothing tells.

    A file of a stranger is read here, too: what is not as :meth:`Headline.noted` writes it does not
    count, and labels are not taken for formulas.
    """
    noted = Headline.read(results.get("headline"))
    ours = (h for h in HEADLINES if (h.name == noted.name if noted else h.name in results))
    found = next(ours, noted or AUC)
    figures = (c for c in found.columns if isinstance(results.get(c, 0.0), (int, float, NoneType)))
    return found._replace(columns=tuple(figures))
