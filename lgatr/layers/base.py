"""Layers work on sectors; called from outside they take and return public tensors."""

from __future__ import annotations

from torch import Tensor, nn

from lgatr.layout import Sectors, from_sectors, to_sectors


class SectorModule(nn.Module):
    """A layer that maps sectors to sectors, callable with multivectors and scalars as well."""

    representations = (("multivector", "scalar"), ("multivector", "scalar"))

    def forward_sectors(self, x: Sectors) -> Sectors:
        """The layer on hidden states."""
        raise NotImplementedError

    def forward(
        self, multivectors: Tensor, scalars: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The layer on public tensors.

        Parameters
        ----------
        multivectors
            ``(..., C, 16)``.
        scalars
            ``(..., S)``, or None.

        Returns
        -------
        outputs_mv
            ``(..., C', 16)``.
        outputs_s
            ``(..., S')``, or None if there are no scalar channels.
        """
        return public(self.forward_sectors(to_sectors(multivectors, scalars)))


def public(x: Sectors) -> tuple[Tensor, Tensor | None]:
    """Sectors as public tensors, with None for zero scalar channels."""
    multivectors, scalars = from_sectors(x)
    return multivectors, scalars if scalars.shape[-1] else None
