"""Metrics of predicted logarithms of amplitudes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from experiments.metrics.predictions import Predictions

WITHIN = (0.01, 0.1)
"""Relative errors of the amplitude, of which the share of events within is given."""


def relative_errors(results: Predictions, std: float) -> Tensor:
    """Predicted amplitude over the true one, less one: ``(B,)`` float64.

    Parameters
    ----------
    results
        Logarithms in units of ``std``.
    std
        What they were divided by.
    """
    return torch.expm1((results.predicted - results.target) * std)


def regression_metrics(results: Predictions, std: float) -> dict[str, Any]:
    """Metrics of a sample.

    ``mse`` is the mean squared error of the standardised logarithm, with its statistical error, and
    ``mse_times_1e5`` that in the units of the papers. ``mse_of_logarithm`` is without
    standardisation. Of the amplitude itself: the median size of the relative error, and the shares
    of events within 1 % and 10 %. If uncertainties are predicted: mean and standard deviation of
    the pulls, which are errors over their predicted standard deviation, the share of pulls within
    one (0.683 if they are normal), and the mean negative logarithm of the density (``nll``).

    Parameters
    ----------
    results, std
        See :func:`relative_errors`.
    """
    squares = (results.predicted - results.target).square()
    count = len(squares)
    mse = float(squares.mean())
    error = float(squares.std()) / math.sqrt(count) if count > 1 else None
    sizes = relative_errors(results, std).abs()
    return {
        "mse": mse,
        "mse_error": error,
        "mse_times_1e5": 1e5 * mse,
        "mse_times_1e5_error": None if error is None else 1e5 * error,
        "mse_of_logarithm": std**2 * mse,
        "median_relative_error": float(sizes.median()),
        **{f"within_{100 * w:g}_percent": float((sizes < w).double().mean()) for w in WITHIN},
        **({} if results.sigma is None else _calibration(results, results.sigma)),
    }


def pulls(results: Predictions, sigma: Tensor) -> Tensor:
    """Errors over their predicted standard deviation, ``(B,)`` float64."""
    return (results.predicted - results.target) / sigma


def _calibration(results: Predictions, sigma: Tensor) -> dict[str, Any]:
    found = pulls(results, sigma)
    densities = 0.5 * (found.square() + math.log(2 * math.pi)) + sigma.log()
    return {
        "nll": float(densities.mean()),
        "pull_mean": float(found.mean()),
        "pull_std": float(found.std()) if len(found) > 1 else None,
        "pulls_within_1": float((found.abs() < 1).double().mean()),
    }
