"""The linear layer for vectors and scalars."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lgatr.layers.base import hold_parameters
from lgatr.layers.inner_linear import linear_map
from lgatr.layers.slim.base import SlimLayer
from lgatr.layout import SlimState
from lgatr.ops.slim_linear.formula import VectorMatrices, vector_linear
from lgatr.ops.slim_linear.stage import SLIM_LINEAR_STAGE
from lgatr.utils.arguments import check_counts, check_flags

INITIALIZATIONS = {"default": 1.0, "small": 0.1}


class SlimLinear(SlimLayer):
    """Mix vector channels and, apart from them, scalar channels.

    Parameters
    ----------
    in_v_channels, out_v_channels
        Vector channels.
    in_s_channels, out_s_channels
        Scalar channels.
    bias
        Whether scalars get a bias.
    initialization
        ``"default"`` keeps the scale of the inputs, ``"small"`` is a tenth of it.

    Raises
    ------
    ValueError
        For an unknown initialization, impossible channels, or inputs that do not fit.
    """

    def __init__(
        self,
        in_v_channels: int,
        out_v_channels: int,
        in_s_channels: int,
        out_s_channels: int,
        bias: bool = True,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        check_counts(
            0,
            in_v_channels=in_v_channels,
            out_v_channels=out_v_channels,
            in_s_channels=in_s_channels,
            out_s_channels=out_s_channels,
        )
        check_flags(bias=bias)
        self.in_v_channels: int = in_v_channels
        self.in_s_channels: int = in_s_channels
        self.out_v_channels, self.out_s_channels = out_v_channels, out_s_channels
        self.weight_v = nn.Parameter(torch.empty(out_v_channels, in_v_channels))
        self.linear_s = (
            nn.Linear(in_s_channels, out_s_channels, bias=bias)
            if in_s_channels and out_s_channels
            else None
        )
        self.reset_parameters(initialization)

    def reset_parameters(self, initialization: str, additional_factor: float = 1.0) -> None:
        """Draw new weights, uniform in plus or minus ``factor / sqrt(inputs)``; zero biases."""
        if initialization not in INITIALIZATIONS:
            raise ValueError(
                f"initialization must be one of {', '.join(INITIALIZATIONS)}, "
                f"not {initialization!r}"
            )
        factor = INITIALIZATIONS[initialization] * additional_factor
        weights: list[Tensor] = [self.weight_v]
        if self.linear_s is not None:
            weights.append(self.linear_s.weight)
            if self.linear_s.bias is not None:
                nn.init.zeros_(self.linear_s.bias)
        for weight in weights:
            if weight.numel():
                bound = factor / math.sqrt(weight.shape[1])
                nn.init.uniform_(weight, -bound, bound)

    def by_head(self, parts: int, heads: int) -> VectorMatrices:
        """The parameters with outputs ordered (part, head, channel), not (part, channel, head).

        Reordering small weights spares the large activations a transposition.
        """

        def reorder(weight: Tensor) -> Tensor:
            split = weight.unflatten(0, (parts, -1, heads))
            return split.transpose(1, 2).reshape(weight.shape)

        weight_v, weight_s, bias = self.matrices
        return VectorMatrices(
            reorder(weight_v) if weight_v.numel() else weight_v,
            None if weight_s is None else reorder(weight_s),
            None if bias is None else reorder(bias),
        )

    def forward_hidden(self, x: SlimState) -> SlimState:
        """The layer on hidden states."""
        matrices = self.matrices
        if matrices.s is not None:
            return SlimState(*SLIM_LINEAR_STAGE(*x, *matrices))
        # Without parameters for scalars, the zeros that come out already go in.
        scalars = x.scalars.new_zeros(*x.scalars.shape[:-1], self.out_s_channels)
        return SlimState(*vector_linear(x.vectors, scalars, *matrices))

    @property
    def matrices(self) -> VectorMatrices:
        """The parameters; None for scalars that have none."""
        linear_s = self.linear_s
        if linear_s is None:
            return VectorMatrices(self.weight_v, None, None)
        weight_v = self.weight_v
        if hold_parameters(linear_s):
            return VectorMatrices(weight_v, linear_s.weight, linear_s.bias)
        return VectorMatrices(weight_v, *linear_map(linear_s, self.in_s_channels, weight_v))

    def extra_repr(self) -> str:
        """Channels, for ``print(model)``."""
        return (
            f"v={self.in_v_channels}->{self.out_v_channels}, "
            f"s={self.in_s_channels}->{self.out_s_channels}"
        )
