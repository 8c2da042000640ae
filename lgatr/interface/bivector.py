"""Bivectors in and out of multivectors."""

from __future__ import annotations

from torch import Tensor

from lgatr.interface.components import embed, extract

_COMPONENTS = tuple(range(5, 11))


def embed_bivector(bivectors: Tensor) -> Tensor:
    """Embed bivectors in multivectors, as the coefficients of the grade-two blades.

    Parameters
    ----------
    bivectors
        ``(..., 6)``, in the order (tx, ty, tz, xy, xz, yz).

    Returns
    -------
    Multivectors ``(..., 16)``, zero elsewhere.
    """
    return embed(bivectors, _COMPONENTS)


def extract_bivector(multivectors: Tensor) -> Tensor:
    """Read bivectors ``(..., 6)`` from multivectors ``(..., 16)``."""
    return extract(multivectors, _COMPONENTS)
