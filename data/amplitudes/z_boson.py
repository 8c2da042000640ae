r"""The squared amplitude of :math:`q \bar q \to Z g` at tree level."""

from __future__ import annotations

import math

import numpy as np

from data.amplitudes.arrays import FloatArray
from data.amplitudes.gluons import COUPLING

MASS = 91.188
"""Of the Z boson in GeV, as in the public data sets."""

_SIN2 = 0.2223  # of the weak mixing angle, on shell
_ALPHA = 1 / 132.51
_ISOSPIN, _CHARGE = 0.5, 2 / 3  # up quarks
_WEAK = math.sqrt(4 * math.pi * _ALPHA / (_SIN2 * (1 - _SIN2)))
VECTOR = _WEAK * (_ISOSPIN / 2 - _CHARGE * _SIN2)
AXIAL = _WEAK * _ISOSPIN / 2
r"""Couplings of :math:`\bar q \gamma^\mu (v - a \gamma_5) q Z_\mu`."""


def squared_amplitude(momenta: FloatArray) -> FloatArray:
    r""":math:`\frac{8}{9} g_s^2 (v^2 + a^2) \frac{t^2 + u^2 + 2 s m_Z^2}{t u}`.

    Averaged over incoming spins and colours, summed over outgoing ones; of massless up quarks.

    Parameters
    ----------
    momenta
        ``(events, 4, 4)`` of quark, antiquark, Z boson and gluon, in GeV.

    Returns
    -------
    ``(events,)``, without a unit.
    """
    quark, antiquark, _, gluon = np.moveaxis(momenta, 1, 0)
    # Scalar products keep digits that differences of momenta would lose.
    s, t, u = (
        2 * dot(quark, antiquark),
        -2 * dot(antiquark, gluon),
        -2 * dot(quark, gluon),
    )
    couplings = 8 / 9 * COUPLING**2 * (VECTOR**2 + AXIAL**2)
    return couplings * (t**2 + u**2 + 2 * s * MASS**2) / (t * u)


def dot(a: FloatArray, b: FloatArray) -> FloatArray:
    """Minkowski products of momenta ``(..., 4)``."""
    found: FloatArray = a[..., 0] * b[..., 0] - (a[..., 1:] * b[..., 1:]).sum(axis=-1)
    return found
