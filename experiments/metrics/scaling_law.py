"""Fits of loss against size, data or cost: ``floor + (scale / x)^exponent`` (arXiv:2001.08361).

Legend: N runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.errors import UserError

FEWEST = 4
"""Different values that a fit of three parameters needs."""
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law with statistical errors.

    Parameters
    ----------
    floor, exponent, scale
        Of the law; ``scale`` in units of x.
    floor_error, exponent_error
        One standard deviation.
    """

    floor: float
    exponent: float
    scale: float
    floor_error: float
    exponent_error: float

    def __call__(self, x: FloatArray) -> FloatArray:
        """Loss at ``x``."""
        return self.floor + (self.scale / x) ** self.exponent


def fit(x: Sequence[float], loss: Sequence[float], error: Sequence[float]) -> ScalingLaw:
    """Fit a law to runs by least squares.

    Parameters
    ----------
    x, loss, error
        ``(N,)`` each, above zero; errors weight the runs.

    Raises
    ------
    UserError
        If there are fewer than :data:`FEWEST` different values of x, or no law fits.
    """
    from scipy.optimize import curve_fit

    at, y, sigma = (np.asarray(values, dtype=np.float64) for values in (x, loss, error))
    if len(set(x)) < FEWEST:
        raise UserError(f"a fit needs runs at {FEWEST} or more different values, not {len(set(x))}")
    middle = math.exp(float(np.log(at).mean()))

    def law(z: FloatArray, floor: float, amplitude: float, exponent: float) -> FloatArray:
        return floor + amplitude * (z / middle) ** -exponent

    span = max(float(y.max() - y.min()), 1e-9)
    try:
        found, covariance = curve_fit(
            law, at, y, p0=(max(float(y.min()) - 0.2 * span, 0.0), span, 0.3), sigma=sigma,
            absolute_sigma=True, bounds=([0.0, 0.0, 1e-3], [float(y.max()), np.inf, 5.0]),
            maxfev=20_000,
        )  # fmt: skip
    except RuntimeError as error_of_fit:
        raise UserError(f"no law fits these runs ({error_of_fit})") from error_of_fit
    floor, amplitude, exponent = map(float, found)
    errors = np.sqrt(np.diag(covariance))
    scale = middle * amplitude ** (1 / exponent) if amplitude > 0 else 0.0
    return ScalingLaw(floor, exponent, scale, float(errors[0]), float(errors[2]))
