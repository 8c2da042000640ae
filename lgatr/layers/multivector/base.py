"""Layers work on sectors; called from outside they take and return public tensors."""

from __future__ import annotations

from torch import Tensor, nn

from lgatr.layout import Sectors, from_sectors, to_sectors
from lgatr.utils.inputs import check_multivectors, check_scalars


class SectorModule(nn.Module):
    """A layer that maps sectors to sectors, callable with multivectors and scalars as well."""

    representations = (("multivector", "scalar"), ("multivector", "scalar"))
    in_mv_channels: int | None = None
    in_s_channels: int | None = None
    """Channels of the inputs; None for any."""

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

        Raises
        ------
        TypeError, ValueError
            If these are no such tensors, in the format and on the device of the parameters.
        """
        like = next(self.parameters(), None)
        channels = self.in_mv_channels, self.in_s_channels
        return public(self.forward_sectors(entering(multivectors, scalars, *channels, like)))


class PointwiseModule(SectorModule):
    """A layer that treats multivectors and scalars apart from each other.

    Scalars may then belong to tokens, ``(..., S)`` beside ``(..., C, 16)``, or have the leading
    dimensions of the multivectors, channels included: ``(..., C, S)``.
    """

    def forward_scalars(self, scalars: Tensor) -> Tensor:
        """The layer on scalars ``(..., S)`` alone."""
        raise NotImplementedError

    def forward(
        self, multivectors: Tensor, scalars: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The layer on public tensors; see the class for their shapes."""
        like = next(self.parameters(), None)
        check_multivectors(
            "multivectors", multivectors, self.in_mv_channels, like=like, pointwise=True
        )
        single = multivectors.dim() == 1
        if single:
            multivectors = multivectors.unsqueeze(0)
        if scalars is None or (
            isinstance(scalars, Tensor) and scalars.shape[:-1] != multivectors.shape[:-1]
        ):
            channels = self.in_mv_channels, self.in_s_channels if scalars is not None else None
            x, s = public(self.forward_sectors(entering(multivectors, scalars, *channels, like)))
        else:
            beside = "multivectors", multivectors.unsqueeze(-2)
            check_scalars("scalars", scalars, self.in_s_channels, like=multivectors, beside=beside)
            x, _ = public(self.forward_sectors(to_sectors(multivectors)))
            s = self.forward_scalars(scalars)
        return x.squeeze(0) if single else x, s


def entering(
    multivectors: Tensor,
    scalars: Tensor | None,
    mv_channels: int | None,
    s_channels: int | None,
    like: Tensor | None,
    items: bool = False,
    suffix: str = "",
) -> Sectors:
    """Public tensors as sectors, after all that is to be checked about them.

    Parameters
    ----------
    multivectors, scalars
        What was given.
    mv_channels, s_channels
        Channels that are expected; None for any.
    like
        A parameter, whose format and device are wanted; None takes those of ``multivectors``.
    items
        Whether multivectors need a dimension of tokens.
    suffix
        Of the names of both arguments.
    """
    check_tokens(multivectors, scalars, mv_channels, s_channels, like, items, suffix)
    return to_sectors(multivectors, scalars)


def check_tokens(
    multivectors: Tensor,
    scalars: Tensor | None,
    mv_channels: int | None,
    s_channels: int | None,
    like: Tensor | None,
    items: bool = True,
    suffix: str = "",
) -> None:
    """The checks of :func:`entering`."""
    names = f"multivectors{suffix}", f"scalars{suffix}"
    check_multivectors(names[0], multivectors, mv_channels, like=like, items=items)
    check_scalars(
        names[1],
        scalars,
        s_channels,
        like=multivectors if like is None else like,
        beside=(names[0], multivectors),
    )


def public(x: Sectors) -> tuple[Tensor, Tensor | None]:
    """Sectors as public tensors, with None for zero scalar channels."""
    multivectors, scalars = from_sectors(x)
    return multivectors, scalars if scalars.shape[-1] else None
