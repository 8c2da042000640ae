"""Equivariant layer normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lgatr.algebra import NUM_GRADES
from lgatr.layers.base import accepts_hidden
from lgatr.layers.multivector.base import PointwiseLayer
from lgatr.layout import Sectors
from lgatr.ops.norm.formula import EPSILON
from lgatr.ops.norm.stage import Norm, SumAndNorm
from lgatr.utils.arguments import check_counts, check_flags, check_floor
from lgatr.utils.inputs import check_channel_dim, check_multivectors


class EquiLayerNorm(PointwiseLayer):
    """Normalise multivectors by their mean norm over channels, scalars by ordinary layer norm.

    The equation is that of :func:`~lgatr.primitives.normalization.equi_layer_norm`.

    Parameters
    ----------
    mv_channels, s_channels
        Channels; 0 for any, which learned gains do not allow.
    mv_channel_dim
        Where the multivector channels are.
    epsilon
        Floor of the mean squared norm.
    gain
        Factor on the normalised multivectors.
    elementwise_affine
        Whether to learn a gain for each channel and grade, and for each scalar channel.
    """

    def __init__(
        self,
        mv_channels: int = 0,
        s_channels: int = 0,
        mv_channel_dim: int = -2,
        epsilon: float = EPSILON,
        gain: float = 1.0,
        elementwise_affine: bool = False,
    ) -> None:
        super().__init__()
        check_counts(0, mv_channels=mv_channels, s_channels=s_channels)
        check_flags(elementwise_affine=elementwise_affine)
        check_floor("epsilon", epsilon)
        # Without gains, channels that were not given may be any.
        self.in_mv_channels, self.in_s_channels = mv_channels or None, s_channels or None
        self.mv_channel_dim, self.stage = mv_channel_dim, Norm(epsilon, gain)
        self._after_sum = SumAndNorm(self.stage)
        self.weight_mv: nn.Parameter | None = None
        self.weight_s: nn.Parameter | None = None
        if elementwise_affine:
            if mv_channels < 1:
                raise ValueError("elementwise_affine=True needs mv_channels")
            self.in_mv_channels, self.in_s_channels = mv_channels, s_channels
            self.weight_mv = nn.Parameter(torch.ones(mv_channels, NUM_GRADES))
            self.weight_s = nn.Parameter(torch.ones(s_channels), requires_grad=s_channels > 0)

    @property
    def epsilon(self) -> float:
        """Floor of the mean squared norm."""
        return self.stage.epsilon

    @property
    def gain(self) -> float:
        """Factor on the normalised multivectors."""
        return self.stage.gain

    def forward_hidden(self, x: Sectors) -> Sectors:
        """The layer on hidden states."""
        without_scalars = x.z.shape[-1] == x.v.shape[-1]  # of users, although there are gains
        weight_s = None if without_scalars else self.weight_s
        return Sectors(*self.stage(*x, self.weight_mv, weight_s))

    def of_sum(self, x: Sectors, more: Sectors | None) -> tuple[Sectors, Sectors]:
        """The sum of two hidden states (or ``x`` alone), and the layer on it, in one operation."""
        without_scalars = x.z.shape[-1] == x.v.shape[-1]
        weight_s = None if without_scalars else self.weight_s
        found = self._after_sum(*x, *(more or (None, None, None)), self.weight_mv, weight_s)
        return Sectors(*found[:3]), Sectors(*found[3:])

    @accepts_hidden
    def forward(
        self, multivectors: Tensor, scalars: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Normalise ``(..., C, 16)`` and ``(..., S)``; the base class says which shapes go."""
        check_multivectors("multivectors", multivectors)
        check_channel_dim("multivectors", multivectors, self.mv_channel_dim, "mv_channel_dim")
        channels_last = multivectors.movedim(self.mv_channel_dim, -2)
        outputs, outputs_s = super().forward(channels_last, scalars)
        return outputs.movedim(-2, self.mv_channel_dim), outputs_s

    def forward_scalars(self, scalars: Tensor) -> Tensor:
        """The layer on scalars ``(..., S)`` alone."""
        return F.layer_norm(scalars, scalars.shape[-1:], self.weight_s)
