"""Spinor products of massless momenta (Dixon, hep-ph/9601359)."""

from __future__ import annotations

import numpy as np

from data.amplitudes.arrays import ComplexArray, FloatArray


def products(momenta: FloatArray) -> ComplexArray:
    """:math:`\\langle ij \\rangle` up to a phase for each particle; its square is |2 p_i · p_j|.

    Beams lie along the z axis, where the usual components along the light cone vanish: here the x
    axis takes its part.

    Parameters
    ----------
    momenta
        ``(events, n, 4)`` with positive energies, also of incoming particles.

    Returns
    -------
    ``(events, n, n)``, antisymmetric.
    """
    e, x, y, z = np.moveaxis(momenta, -1, 0)
    # E + x from the other components where it would lose digits.
    transverse = y**2 + z**2
    plus = np.sqrt(np.where(x >= 0, e + x, transverse / np.where(x >= 0, 1.0, e - x)))
    first, second = plus.astype(np.complex128), (y + 1j * z) / plus
    return first[:, :, None] * second[:, None, :] - second[:, :, None] * first[:, None, :]
