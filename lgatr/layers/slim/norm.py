"""Root-mean-square normalisation of vectors and scalars together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lgatr.primitives.vectors import EPSILON, vector_rms_norm


class SlimRMSNorm(nn.Module):
    """Divide vectors and scalars by their joint root mean square.

    See :func:`~lgatr.primitives.vectors.inverse_rms` for the equation; the square of a vector
    enters by its absolute value.

    Parameters
    ----------
    v_channels, s_channels
        Channels.
    epsilon
        Added to the mean square.
    elementwise_affine
        Whether to learn a gain for each channel.
    """

    representations = (("slim vector", "scalar"), ("slim vector", "scalar"))

    def __init__(
        self,
        v_channels: int,
        s_channels: int,
        epsilon: float = EPSILON,
        elementwise_affine: bool = True,
    ) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight_v = nn.Parameter(torch.ones(v_channels)) if elementwise_affine else None
        self.weight_s = nn.Parameter(torch.ones(s_channels)) if elementwise_affine else None

    def forward(self, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise ``(..., 4, C)`` and ``(..., S)``."""
        return vector_rms_norm(vectors, scalars, self.weight_v, self.weight_s, self.epsilon)
