"""Root-mean-square normalisation of vectors and scalars together."""

from __future__ import annotations

import torch
from torch import nn

from lgatr.layers.slim.base import SlimLayer
from lgatr.layout import SlimState
from lgatr.ops.slim_norm.formula import EPSILON
from lgatr.ops.slim_norm.stage import SlimNorm, SlimSumAndNorm
from lgatr.utils.arguments import check_counts, check_flags, check_floor


class SlimRMSNorm(SlimLayer):
    """Divide vectors and scalars by their joint root mean square.

    The equation is that of :func:`~lgatr.primitives.vectors.inverse_rms`; the square of a vector
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

    def __init__(
        self,
        v_channels: int,
        s_channels: int,
        epsilon: float = EPSILON,
        elementwise_affine: bool = True,
    ) -> None:
        super().__init__()
        check_counts(0, v_channels=v_channels, s_channels=s_channels)
        check_flags(elementwise_affine=elementwise_affine)
        check_floor("epsilon", epsilon)
        self.in_v_channels, self.in_s_channels = v_channels, s_channels
        self.stage = SlimNorm(epsilon)
        self._after_sum = SlimSumAndNorm(self.stage)
        self.weight_v: nn.Parameter | None = None
        self.weight_s: nn.Parameter | None = None
        if elementwise_affine:
            # Without channels there is nothing to learn, and no gradient for parallel training.
            self.weight_v = nn.Parameter(torch.ones(v_channels), requires_grad=v_channels > 0)
            self.weight_s = nn.Parameter(torch.ones(s_channels), requires_grad=s_channels > 0)

    @property
    def epsilon(self) -> float:
        """Added to the mean square."""
        return self.stage.epsilon

    def forward_hidden(self, x: SlimState) -> SlimState:
        """The layer on hidden states."""
        return SlimState(*self.stage(*x, self.weight_v, self.weight_s))

    def of_sum(self, x: SlimState, more: SlimState | None) -> tuple[SlimState, SlimState]:
        """The sum of two hidden states (or ``x`` alone), and the layer on it, in one operation."""
        found = self._after_sum(*x, *(more or (None, None)), self.weight_v, self.weight_s)
        return SlimState(*found[:2]), SlimState(*found[2:])
