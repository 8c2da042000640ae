r"""Squared amplitudes of gluons at tree level, summed over colours.

An amplitude with two gluons of one helicity and all others of the other (maximally helicity
violating) is a sum over orders of the gluons,
:math:`g^{n-2} \sum_\sigma (\tilde F^{a_{\sigma_2}} \cdots \tilde F^{a_{\sigma_{n-1}}})_{a_1 a_n}
\frac{\langle ij \rangle^4}{\langle 1 \sigma_2 \rangle \cdots \langle \sigma_{n-1} n \rangle
\langle n 1 \rangle}` (Parke and Taylor, Phys. Rev. Lett. 56, 2459; Del Duca, Dixon and Maltoni,
hep-ph/9910563). With up to five gluons there are no other amplitudes; with six these are the MHV
sector.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np

from data.amplitudes import spinors
from data.amplitudes.arrays import ComplexArray, FloatArray

COUPLING = math.sqrt(4 * math.pi * 0.118)
"""Of the strong interaction, at the mass of the Z boson."""

_COLOURS = 3
_ADJOINT = _COLOURS**2 - 1
_AVERAGE = (2 * _ADJOINT) ** 2
"""Helicities and colours of two incoming gluons."""


def squared_amplitude(momenta: FloatArray) -> FloatArray:
    r""":math:`\overline{\sum} |M|^2` of two incoming gluons and two to four outgoing ones.

    Averaged over incoming helicities and colours, summed over outgoing ones; without the factor
    1/n! of identical particles.

    Parameters
    ----------
    momenta
        ``(events, n, 4)`` in GeV; massless, with momentum conserved.

    Returns
    -------
    ``(events,)``, in powers of GeV.

    Raises
    ------
    ValueError
        For fewer than four gluons or more than six.
    """
    n = momenta.shape[1]
    if not 4 <= n <= 6:
        raise ValueError(f"amplitudes of 4 to 6 gluons are known here, not of {n}")
    angle = spinors.products(momenta)
    squares = np.abs(angle) ** 2
    helicities = sum(squares[:, i, j] ** 4 for i in range(n) for j in range(i))
    # With four gluons each amplitude is its own mirror image.
    mirrored = 1.0 if n == 4 else 2.0
    ordered = np.stack([_denominator(angle, order) for order in _orders(n)], axis=1)
    colours = np.einsum("ni,ij,nj->n", ordered.conj(), colour_matrix(n), ordered).real
    return COUPLING ** (2 * n - 4) / _AVERAGE * mirrored * helicities * colours


def _orders(n: int) -> list[tuple[int, ...]]:
    """Orders of all gluons with the first and the last in their places."""
    return [(0, *inner, n - 1) for inner in itertools.permutations(range(1, n - 1))]


def _denominator(angle: ComplexArray, order: tuple[int, ...]) -> ComplexArray:
    """One over the product of neighbours' spinor products, ``(events,)``."""
    found = angle[:, order[-1], order[0]].copy()
    for i, j in itertools.pairwise(order):
        found *= angle[:, i, j]
    return 1.0 / found


@cache
def colour_matrix(n: int) -> FloatArray:
    """Sums over colours of products of two orders' colour factors."""
    chains = _structure_constants()
    tensor = chains  # first, its inner gluons, last
    for _ in range(n - 3):
        tensor = np.einsum("...b,bac->...ac", tensor, chains)
    orders = _orders(n)
    by_order = [
        # Colours of gluons in their places, whatever their order in the chain.
        np.transpose(tensor, np.argsort(order)).ravel()
        for order in orders
    ]
    return np.array([[float(a @ b) for b in by_order] for a in by_order])


def _structure_constants() -> FloatArray:
    r""":math:`\sqrt 2 f^{abc}` of SU(3): without i, which drops out of squares."""
    t = _generators()
    commutator = np.einsum("aij,bjk->abik", t, t)
    commutator = commutator - np.swapaxes(commutator, 0, 1)
    # Tr(T^a T^b) = delta / 2
    return math.sqrt(2) * np.einsum("abik,cki->abc", -2j * commutator, t).real


def _generators() -> ComplexArray:
    """Half the Gell-Mann matrices, ``(8, 3, 3)``."""
    found = []
    for i, j in itertools.combinations(range(_COLOURS), 2):
        for value in (1, -1j):
            matrix = np.zeros((_COLOURS, _COLOURS), dtype=np.complex128)
            matrix[i, j], matrix[j, i] = value, np.conj(value)
            found.append(matrix / 2)
    found.append(np.diag([1, -1, 0]).astype(np.complex128) / 2)
    found.append(np.diag([1, 1, -2]).astype(np.complex128) / (2 * math.sqrt(3)))
    return np.stack(found)
