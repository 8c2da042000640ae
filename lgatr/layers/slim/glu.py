"""The gated linear unit for vectors and scalars."""

from __future__ import annotations

from torch import Tensor

from lgatr.layers.slim.base import SlimModule
from lgatr.layers.slim.linear import SlimLinear
from lgatr.primitives.vectors import vector_glu
from lgatr.utils.nonlinearities import get_nonlinearity


class SlimGLU(SlimModule):
    r"""Vectors gated by inner products, scalars by scalars (arXiv:2512.17011).

    One linear layer makes vectors a, b, c and scalars s, t; the results are
    :math:`a\, f_v(\langle b, c\rangle / 2)` and :math:`s\, f(t)`.

    Parameters
    ----------
    in_v_channels, out_v_channels, in_s_channels, out_s_channels
        Channels.
    nonlinearity
        f: ``"relu"``, ``"sigmoid"``, ``"tanh"``, ``"gelu"`` (tanh form), ``"gelu_exact"`` or
        ``"silu"``.
    nonlinearity_v
        f_v; None means f.
    """

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
        self.function = get_nonlinearity(nonlinearity)
        self.function_v = get_nonlinearity(nonlinearity_v or nonlinearity)

    def transform(self, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(..., 4, I)`` and ``(..., J)`` to ``(..., 4, O)`` and ``(..., P)``."""
        scalars, matrices = self.linear.prepared(vectors, scalars)
        return vector_glu(vectors, scalars, matrices, self.function_v, self.function)
