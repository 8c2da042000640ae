"""Axial vectors in and out of multivectors."""

from __future__ import annotations

from torch import Tensor

from lgatr.interface.components import embed, extract

# (t, x, y, z) are the coefficients of the blades that lack e0, e1, e2, e3.
_COMPONENTS = (14, 13, 12, 11)


def embed_axialvector(axialvectors: Tensor) -> Tensor:
    """Embed axial vectors in multivectors, as coefficients of (e123, e023, e013, e012).

    This is the convention of the ecosystem. It carries no signs, while the dual vectors
    ``e_mu I`` are (e123, e023, -e013, e012): to embed the components of a vector that
    transforms under boosts, change the sign of y first.

    Parameters
    ----------
    axialvectors
        ``(..., 4)``, in the order (t, x, y, z).

    Returns
    -------
    Multivectors ``(..., 16)``, zero elsewhere.
    """
    return embed(axialvectors, _COMPONENTS)


def extract_axialvector(multivectors: Tensor) -> Tensor:
    """Read axial vectors ``(..., 4)`` from multivectors ``(..., 16)``; see the embedding."""
    return extract(multivectors, _COMPONENTS)
