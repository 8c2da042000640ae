"""Four-vectors in and out of multivectors."""

from __future__ import annotations

from torch import Tensor

from lgatr.interface.components import embed, extract

_COMPONENTS = tuple(range(1, 5))


def embed_vector(vectors: Tensor) -> Tensor:
    """Embed four-vectors in multivectors, as the coefficients of e0..e3.

    Parameters
    ----------
    vectors
        ``(..., 4)``, in the order (E, px, py, pz).

    Returns
    -------
    Multivectors ``(..., 16)``, zero elsewhere.
    """
    return embed(vectors, _COMPONENTS)


def extract_vector(multivectors: Tensor) -> Tensor:
    """Read four-vectors ``(..., 4)`` from multivectors ``(..., 16)``."""
    return extract(multivectors, _COMPONENTS)
