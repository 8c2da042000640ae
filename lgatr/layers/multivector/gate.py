"""The scalar-gated nonlinearity."""

from __future__ import annotations

from torch import Tensor

from lgatr.layers.multivector.base import PointwiseModule
from lgatr.layout import Sectors
from lgatr.primitives.nonlinearities import get_nonlinearity, sector_gate


class ScalarGatedNonlinearity(PointwiseModule):
    r""":math:`x \mapsto f(\langle x \rangle_0)\,x`; auxiliary scalars become :math:`f(s)`.

    Parameters
    ----------
    nonlinearity
        ``"relu"``, ``"sigmoid"``, ``"tanh"``, ``"gelu"`` (tanh form), ``"gelu_exact"`` (error
        function) or ``"silu"``; ``"gelu_lgatr1"`` gates by the tanh form and uses the error
        function for auxiliary scalars, as lgatr 1.x did.
    """

    def __init__(self, nonlinearity: str = "gelu") -> None:
        super().__init__()
        mixed = nonlinearity == "gelu_lgatr1"
        self.function = get_nonlinearity("gelu" if mixed else nonlinearity)
        self.scalar_function = get_nonlinearity("gelu_exact") if mixed else self.function

    def forward_sectors(self, x: Sectors) -> Sectors:
        """See :class:`~lgatr.layers.multivector.base.SectorModule`."""
        return sector_gate(x, self.function, self.scalar_function)

    def forward_scalars(self, scalars: Tensor) -> Tensor:
        """See :class:`~lgatr.layers.multivector.base.PointwiseModule`."""
        return self.scalar_function(scalars)
