"""The MLP for vectors and scalars, and its gated linear unit."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lgatr.layers.slim.base import SlimLayer
from lgatr.layers.slim.dropout import SlimDropout
from lgatr.layers.slim.linear import SlimLinear
from lgatr.layout import SlimState
from lgatr.ops.slim_glu.stage import GatedUnits, linear_glu
from lgatr.utils.arguments import check_counts
from lgatr.utils.nonlinearities import get_nonlinearity


class SlimGLU(SlimLayer):
    r"""Vectors gated by inner products, scalars by scalars (arXiv:2512.17011).

    One linear layer makes vectors a, b, c and scalars s, t; the results are
    :math:`a\, f_v(\langle b, c\rangle / 2)` and :math:`s\, f(t)`.

    Parameters
    ----------
    in_v_channels, out_v_channels, in_s_channels, out_s_channels
        Channels.
    nonlinearity
        f, of :data:`~lgatr.utils.nonlinearities.NONLINEARITIES`; ``"gelu"`` is the tanh form.
    nonlinearity_v
        f_v; None means f.
    """

    fused = ("linear",)

    def __init__(
        self,
        in_v_channels: int,
        out_v_channels: int,
        in_s_channels: int,
        out_s_channels: int,
        nonlinearity: str = "gelu",
        nonlinearity_v: str | None = "sigmoid",
    ) -> None:
        super().__init__()
        self.in_v_channels, self.in_s_channels = in_v_channels, in_s_channels
        self.linear = SlimLinear(
            in_v_channels, 3 * out_v_channels, in_s_channels, 2 * out_s_channels
        )
        self.stage = GatedUnits(
            function_v=get_nonlinearity(nonlinearity_v or nonlinearity),
            function=get_nonlinearity(nonlinearity),
        )
        self._linear_stage = linear_glu(self.stage)
        self._seal_fused()

    @property
    def function(self) -> Callable[[Tensor], Tensor]:
        """f."""
        return self.stage.function

    @property
    def function_v(self) -> Callable[[Tensor], Tensor]:
        """f_v."""
        return self.stage.function_v

    def forward_hidden(self, x: SlimState) -> SlimState:
        """The layer on hidden states."""
        matrices = self.linear.matrices
        if matrices.s is None:
            return self.forward_unfused(x)
        return SlimState(*self._linear_stage(*x, *matrices))

    def forward_unfused(self, x: SlimState) -> SlimState:
        """:meth:`forward_hidden`, with the linear layer called."""
        return SlimState(*self.stage(*self.linear(x)))


class SlimMLP(SlimLayer):
    """Gated linear units, then one linear layer.

    Parameters
    ----------
    v_channels, s_channels
        Channels, in and out.
    nonlinearity, nonlinearity_v
        As in :class:`SlimGLU`.
    mlp_ratio
        Factor between channels and hidden channels.
    num_layers
        Number of layers, at least 2.
    dropout_prob
        Dropout probability after each gated unit, or None.
    """

    def __init__(
        self,
        v_channels: int,
        s_channels: int,
        nonlinearity: str = "gelu",
        nonlinearity_v: str | None = "sigmoid",
        mlp_ratio: int = 2,
        num_layers: int = 2,
        dropout_prob: float | None = None,
    ) -> None:
        super().__init__()
        check_counts(2, num_layers=num_layers)
        check_counts(1, mlp_ratio=mlp_ratio)
        self.in_v_channels, self.in_s_channels = v_channels, s_channels
        v, s = mlp_ratio * v_channels, mlp_ratio * s_channels
        layers: list[nn.Module] = []
        for index in range(num_layers - 1):
            v_in, s_in = (v, s) if index else (v_channels, s_channels)
            layers.append(SlimGLU(v_in, v, s_in, s, nonlinearity, nonlinearity_v))
            if dropout_prob is not None:
                layers.append(SlimDropout(dropout_prob))
        layers.append(SlimLinear(v, v_channels, s, s_channels))
        self.layers = nn.ModuleList(layers)

    def forward_hidden(self, x: SlimState) -> SlimState:
        """The layer on hidden states."""
        for layer in self.layers:
            x = layer(x)
        return x
