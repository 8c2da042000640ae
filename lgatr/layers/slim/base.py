"""What all layers of the slim networks have in common."""

from __future__ import annotations

from torch import Tensor, nn

from lgatr.utils.inputs import check_scalars, check_vectors


class SlimModule(nn.Module):
    """A layer that maps vectors ``(..., 4, C)`` and scalars ``(..., S)`` to others.

    Called from outside it checks its inputs; other layers call :meth:`transform`.
    """

    representations = (("slim vector", "scalar"), ("slim vector", "scalar"))
    in_v_channels: int | None = None
    in_s_channels: int | None = None
    """Channels of the inputs; None for any."""

    def transform(self, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """The layer on hidden states."""
        raise NotImplementedError

    def forward(self, vectors: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """The layer on vectors ``(..., 4, C)`` and scalars ``(..., S)``.

        Raises
        ------
        TypeError, ValueError
            If these are no such tensors, in the format and on the device of the parameters.
        """
        like = next(self.parameters(), None)
        check_hidden(vectors, scalars, self.in_v_channels, self.in_s_channels, like)
        return self.transform(vectors, scalars)


def check_hidden(
    vectors: Tensor,
    scalars: Tensor,
    v_channels: int | None,
    s_channels: int | None,
    like: Tensor | None,
    items: bool = False,
    suffix: str = "",
    dim: int = -2,
) -> None:
    """Check vectors and scalars of a slim network or layer.

    Parameters
    ----------
    vectors, scalars
        What was given.
    v_channels, s_channels
        Channels that are expected; None for any.
    like
        A parameter, whose format and device are wanted; None takes those of ``vectors``.
    items
        Whether vectors need a dimension of tokens.
    suffix
        Of the names of both arguments.
    dim
        Where vectors have their components: -2 inside the networks, -1 outside.
    """
    names = f"vectors{suffix}", f"scalars{suffix}"
    check_vectors(names[0], vectors, v_channels, like=like, dim=dim, items=items)
    check_scalars(
        names[1],
        scalars,
        s_channels,
        like=vectors if like is None else like,
        beside=(names[0], vectors),
        required=True,
    )
