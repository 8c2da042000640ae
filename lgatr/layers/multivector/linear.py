"""The equivariant linear layer."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from torch import nn

from lgatr.layers.base import hold_parameters
from lgatr.layers.inner_linear import linear_map
from lgatr.layers.multivector.base import MultivectorLayer
from lgatr.layout import Sectors
from lgatr.ops.linear.matrices import Assembly, Weights
from lgatr.ops.linear.stage import Linear
from lgatr.primitives.config import PrimitivesConfig, primitives_config
from lgatr.primitives.linear import num_linear_maps
from lgatr.utils.arguments import check_counts, check_flags


class _Scheme(NamedTuple):
    """Factors on the multivector and scalar weights, and the shift of the scalar bias."""

    mv: float
    s: float
    shift: float


INITIALIZATIONS = {
    "default": _Scheme(1.0, 1.0, 0.0),
    "small": _Scheme(0.1, 0.1, 0.0),
    "unit_scalar": _Scheme(0.1, 1.0, 1.0),
    "almost_unit_scalar": _Scheme(0.5, 1.0, 1.0),
}

_NONE = None, None

# Maps whose output is a scalar: the scalar itself, and the pseudoscalar times I.
_TO_SCALAR = (0, 9)


def _linear(inputs: int, outputs: int, bias: bool) -> nn.Linear:
    """A linear layer; torch would warn about one without channels."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        return nn.Linear(inputs, outputs, bias=bias)


def _uniform(weight: torch.Tensor, factor: float, inputs: int) -> None:
    """Draw uniformly in plus or minus ``factor / sqrt(inputs)``."""
    if weight.numel():
        bound = factor / math.sqrt(inputs)
        nn.init.uniform_(weight, -bound, bound)


class EquiLinear(MultivectorLayer):
    r"""The most general equivariant linear map, with auxiliary scalars.

    :math:`y_o = \sum_{i,b} w_{oib}\,\phi_b(x_i)` with the maps of
    :func:`~lgatr.primitives.linear.equi_linear`; auxiliary scalars mix with the scalars (and, for
    the connected subgroup, the pseudoscalars) of the multivectors.

    Parameters
    ----------
    in_mv_channels, out_mv_channels
        Multivector channels.
    primitives
        Decides between ten maps and five.
    in_s_channels, out_s_channels
        Scalar channels, 0 for none.
    bias
        Whether scalars get a bias (a bias on anything else would break equivariance).
    initialization
        ``"default"`` keeps or slightly reduces the variance; ``"small"`` reduces it tenfold;
        ``"unit_scalar"`` gives outputs near (1, 0, .., 0), or near (1, 0, .., 0, 1) where scalars
        enter and pseudoscalars may have a bias, and ``"almost_unit_scalar"`` the same with more
        spread.

    Raises
    ------
    ValueError
        For an unknown initialization, impossible channels, or inputs that do not fit.
    """

    def __init__(
        self,
        in_mv_channels: int,
        out_mv_channels: int,
        primitives: PrimitivesConfig | None = None,
        in_s_channels: int = 0,
        out_s_channels: int = 0,
        bias: bool = True,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        in_s_channels, out_s_channels = in_s_channels or 0, out_s_channels or 0
        check_counts(
            0,
            in_mv_channels=in_mv_channels,
            out_mv_channels=out_mv_channels,
            in_s_channels=in_s_channels,
            out_s_channels=out_s_channels,
        )
        check_flags(bias=bias)
        if not in_mv_channels and not in_s_channels:
            raise ValueError(
                "a linear layer without input channels; give at least one of multivectors "
                "(in_mv_channels) or scalars (in_s_channels)"
            )
        primitives = primitives_config(primitives)
        self.stage = Linear(Assembly())
        self.in_mv_channels: int = in_mv_channels
        self.in_s_channels: int = in_s_channels
        self.out_mv_channels, self.out_s_channels = out_mv_channels, out_s_channels
        maps = num_linear_maps(primitives)
        # Scalar-like components of a multivector: scalar and pseudoscalar, or the scalar alone.
        self._scalars_per_mv = 2 if primitives.subgroup else 1
        self.weight = nn.Parameter(torch.empty(out_mv_channels, in_mv_channels, maps))
        self.bias = (
            nn.Parameter(torch.zeros(out_mv_channels, 1)) if bias and not in_s_channels else None
        )
        out_scalars = self._scalars_per_mv * out_mv_channels
        in_scalars = self._scalars_per_mv * in_mv_channels
        self.s2mvs = _linear(in_s_channels, out_scalars, bias) if in_s_channels else None
        self.mvs2s = _linear(in_scalars, out_s_channels, bias) if out_s_channels else None
        self.s2s = (
            _linear(in_s_channels, out_s_channels, False)
            if in_s_channels and out_s_channels
            else None
        )
        self.reset_parameters(initialization)
        # Without channels there is nothing to learn, and no gradient for parallel training.
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.numel() > 0)

    def reset_parameters(
        self, initialization: str, gain: float = 1.0, additional_factor: float | None = None
    ) -> None:
        """Draw new weights, uniform with a width that follows from the number of inputs.

        Parameters
        ----------
        initialization
            As for the class.
        gain
            As :func:`torch.nn.init.calculate_gain` gives it for the preceding activation.
        additional_factor
            Further factor; the default 1/sqrt(3) is that of :class:`torch.nn.Linear`.
        """
        if initialization not in INITIALIZATIONS:
            raise ValueError(
                f"initialization must be one of {', '.join(INITIALIZATIONS)}, "
                f"not {initialization!r}"
            )
        scheme = INITIALIZATIONS[initialization]
        common = gain * math.sqrt(3) * (additional_factor or 1 / math.sqrt(3))
        # Outputs fed by two sources share the variance between them.
        sources = 2 if self.in_s_channels else 1
        scalar_inputs = self._scalars_per_mv * self.in_mv_channels
        _uniform(self.weight, scheme.mv * common, self.in_mv_channels)
        if self.s2mvs is not None:
            with torch.no_grad():
                self.weight[..., [m for m in _TO_SCALAR if m < self.weight.shape[2]]] /= math.sqrt(
                    sources
                )
            _uniform(self.s2mvs.weight, scheme.mv * common, sources * self.in_s_channels)
        if self.mvs2s is not None:
            _uniform(self.mvs2s.weight, scheme.s * common, sources * scalar_inputs)
            if self.mvs2s.bias is not None:
                _uniform(self.mvs2s.bias, scheme.s * common, scalar_inputs + self.in_s_channels)
        if self.s2s is not None:
            _uniform(self.s2s.weight, scheme.s * common, sources * self.in_s_channels)
        self._reset_mv_bias(scheme.shift)

    @torch.no_grad()
    def _reset_mv_bias(self, shift: float) -> None:
        if self.bias is not None:
            self.bias.fill_(shift)
        if self.s2mvs is not None and self.s2mvs.bias is not None:
            _uniform(self.s2mvs.bias, 1.0, self.in_mv_channels + self.in_s_channels)
            # Pseudoscalars as well, where they have a bias: so are the reference library's numbers.
            self.s2mvs.bias.add_(shift)

    def weights(self) -> Weights:
        """The parameters, as :attr:`stage` takes them after the state."""
        # Each look-up of an inner module or parameter costs as much as a small operation.
        weight, s2mvs, mvs2s, s2s = self.weight, self.s2mvs, self.mvs2s, self.s2s
        if hold_parameters(s2mvs, mvs2s, s2s):
            return Weights(
                weight,
                None if s2mvs is None else s2mvs.weight,
                None if mvs2s is None else mvs2s.weight,
                None if s2s is None else s2s.weight,
                self.bias if s2mvs is None else s2mvs.bias,
                None if mvs2s is None else mvs2s.bias,
            )
        scalars, mv_scalars = self.in_s_channels, self._scalars_per_mv * self.in_mv_channels
        to_mv = _NONE if s2mvs is None else linear_map(s2mvs, scalars, weight)
        of_mv = _NONE if mvs2s is None else linear_map(mvs2s, mv_scalars, weight)
        between = _NONE if s2s is None else linear_map(s2s, scalars, weight)
        mv_bias = self.bias if s2mvs is None else to_mv[1]
        # What stands for a map without a bias may have one.
        bias = between[1] if of_mv[1] is None else of_mv[1]
        if of_mv[1] is not None and between[1] is not None:
            bias = of_mv[1] + between[1]
        return Weights(weight, to_mv[0], of_mv[0], between[0], mv_bias, bias)

    def scaled_weights(self, scale: torch.Tensor) -> Weights:
        """:meth:`weights` for inputs multiplied by ``scale`` ``(heads,)``, head by head."""
        weight, s2mvs, mvs2s, s2s, *biases = self.weights()
        heads = len(scale)

        def scaled(columns: torch.Tensor | None) -> torch.Tensor | None:
            if columns is None:
                return None
            by_head = columns.unflatten(1, (heads, -1))
            return (by_head * scale.view(-1, *[1] * (by_head.dim() - 2))).flatten(1, 2)

        found = scaled(weight)
        assert found is not None
        return Weights(found, scaled(s2mvs), scaled(mvs2s), scaled(s2s), *biases)

    def forward_hidden(self, x: Sectors) -> Sectors:
        """The layer on hidden states."""
        return Sectors(*self.stage(*x, *self.weights()))

    def extra_repr(self) -> str:
        """Channels, for ``print(model)``."""
        return (
            f"mv={self.in_mv_channels}->{self.out_mv_channels}, "
            f"s={self.in_s_channels}->{self.out_s_channels}"
        )
