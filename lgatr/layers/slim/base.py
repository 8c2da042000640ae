"""Base class of the layers on vectors and scalars."""

from __future__ import annotations

from torch import Tensor

from lgatr.layers.base import Layer, accepts_hidden
from lgatr.layout import SlimState
from lgatr.utils.inputs import check_tokens


class SlimLayer(Layer):
    """A layer that maps vectors ``(..., 4, C)`` and scalars ``(..., S)`` to others."""

    representations = (("slim vector", "scalar"), ("slim vector", "scalar"))
    in_v_channels: int | None = None
    in_s_channels: int | None = None
    """Channels of the inputs; None for any."""

    @accepts_hidden
    def forward(self, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """The layer on vectors ``(..., 4, C)`` and scalars ``(..., S)``.

        Raises
        ------
        TypeError, ValueError
            If these are no such tensors, in the format and on the device of the parameters.
        """
        channels, like = (self.in_v_channels, self.in_s_channels), next(self.parameters(), None)
        v, s = self.run(checked_state(vectors, scalars, channels, like))
        return v, s


def checked_state(
    vectors: Tensor,
    scalars: Tensor,
    channels: tuple[int | None, int | None],
    like: Tensor | None,
    items: bool = False,
    suffix: str = "",
) -> SlimState:
    """Tensors as a hidden state, after :func:`~lgatr.utils.inputs.check_tokens`."""
    check_tokens(
        vectors, scalars, channels, like, kind="vectors", items=items, suffix=suffix, dim=-2
    )
    return SlimState(vectors, scalars)
