"""The scalar-gated nonlinearity."""

from __future__ import annotations

from lgatr.layers.base import SectorModule
from lgatr.layout import Sectors
from lgatr.primitives.nonlinearities import get_nonlinearity, sector_gate


class ScalarGatedNonlinearity(SectorModule):
    r""":math:`x \mapsto f(\langle x \rangle_0)\,x`; auxiliary scalars become :math:`f(s)`.

    Parameters
    ----------
    nonlinearity
        ``"relu"``, ``"sigmoid"``, ``"tanh"``, ``"gelu"`` (tanh form) or ``"silu"``.
    """

    def __init__(self, nonlinearity: str = "gelu") -> None:
        super().__init__()
        self.function = get_nonlinearity(nonlinearity)

    def forward_sectors(self, x: Sectors) -> Sectors:
        """See :class:`~lgatr.layers.base.SectorModule`."""
        return sector_gate(x, self.function)
