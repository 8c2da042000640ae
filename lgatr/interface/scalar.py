"""Scalars in and out of multivectors."""

from __future__ import annotations

from torch import Tensor

from lgatr.interface.components import embed, extract

_COMPONENTS = tuple(range(0, 1))


def embed_scalar(scalars: Tensor) -> Tensor:
    """Embed scalars in multivectors, as the coefficients of the unit blade.

    Parameters
    ----------
    scalars
        ``(..., 1)``.

    Returns
    -------
    Multivectors ``(..., 16)``, zero elsewhere.
    """
    return embed(scalars, _COMPONENTS)


def extract_scalar(multivectors: Tensor) -> Tensor:
    """Read scalars ``(..., 1)`` from multivectors ``(..., 16)``."""
    return extract(multivectors, _COMPONENTS)
