"""Pseudoscalars in and out of multivectors."""

from __future__ import annotations

from torch import Tensor

from lgatr.interface.components import embed, extract

_COMPONENTS = tuple(range(15, 16))


def embed_pseudoscalar(pseudoscalars: Tensor) -> Tensor:
    """Embed pseudoscalars in multivectors, as the coefficients of e0123.

    Parameters
    ----------
    pseudoscalars
        ``(..., 1)``.

    Returns
    -------
    Multivectors ``(..., 16)``, zero elsewhere.
    """
    return embed(pseudoscalars, _COMPONENTS)


def extract_pseudoscalar(multivectors: Tensor) -> Tensor:
    """Read pseudoscalars ``(..., 1)`` from multivectors ``(..., 16)``."""
    return extract(multivectors, _COMPONENTS)
