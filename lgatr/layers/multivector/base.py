"""Base classes of the layers on multivectors with auxiliary scalars."""

from __future__ import annotations

from torch import Tensor

from lgatr.layers.base import Layer, accepts_hidden
from lgatr.layout import Sectors, to_public, to_sectors
from lgatr.utils.inputs import check_multivectors, check_scalars, check_tokens


class MultivectorLayer(Layer):
    """A layer that maps multivectors and scalars of the same tokens to others."""

    representations = (("multivector", "scalar"), ("multivector", "scalar"))
    in_mv_channels: int | None = None
    in_s_channels: int | None = None
    """Channels of the inputs; None for any."""

    @accepts_hidden
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
        channels, like = (self.in_mv_channels, self.in_s_channels), next(self.parameters(), None)
        return to_public(self.run(checked_sectors(multivectors, scalars, channels, like)))


class PointwiseLayer(MultivectorLayer):
    """A layer that treats multivectors and scalars apart from each other.

    Scalars may then belong to tokens, ``(..., S)`` beside ``(..., C, 16)``, or have the leading
    dimensions of the multivectors, channels included: ``(..., C, S)``.
    """

    def forward_scalars(self, scalars: Tensor) -> Tensor:
        """The layer on scalars ``(..., S)`` alone."""
        raise NotImplementedError

    @accepts_hidden
    def forward(
        self, multivectors: Tensor, scalars: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The layer on public tensors; the class says which shapes scalars may have."""
        like = next(self.parameters(), None)
        mv_channels, s_channels = self.in_mv_channels, self.in_s_channels
        check_multivectors("multivectors", multivectors, mv_channels, like=like, pointwise=True)
        single = multivectors.dim() == 1
        if single:
            multivectors = multivectors.unsqueeze(0)
        if scalars is None or (
            isinstance(scalars, Tensor) and scalars.shape[:-1] != multivectors.shape[:-1]
        ):
            channels = mv_channels, s_channels if scalars is not None else None
            x, s = to_public(self.run(checked_sectors(multivectors, scalars, channels, like)))
        else:
            beside = "multivectors", multivectors.unsqueeze(-2)
            check_scalars("scalars", scalars, s_channels, like=multivectors, beside=beside)
            x, _ = to_public(self.run(to_sectors(multivectors)))
            s = self.forward_scalars(scalars)
        return x.squeeze(0) if single else x, s


def checked_sectors(
    multivectors: Tensor,
    scalars: Tensor | None,
    channels: tuple[int | None, int | None],
    like: Tensor | None,
    items: bool = False,
    suffix: str = "",
) -> Sectors:
    """Public tensors as sectors, after :func:`~lgatr.utils.inputs.check_tokens`."""
    check_tokens(multivectors, scalars, channels, like, items=items, suffix=suffix)
    return to_sectors(multivectors, scalars)
