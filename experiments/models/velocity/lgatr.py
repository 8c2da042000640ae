"""Velocity fields of L-GATr (arXiv:2411.00446) and L-GATr-slim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from experiments.data.batch import DataSpec
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.velocity.base import SCALARS, TIME_SCALE, NetworkField, particles_of
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import Positive, Supplied
from lgatr import LGATr, LGATrSlim, embed_vector


class LGATrField(NetworkField):
    """A field whose velocities of momenta are vectors of L-GATr.

    Parameters
    ----------
    spec
        Specification of the data set.
    network
        Makes an :class:`lgatr.LGATr` from its numbers of input and output channels.
    symmetry_breaking
        Reference multivectors, as tokens.
    attention
        Attention backend.
    momentum_unit
        Four-momenta are divided by this many GeV.
    time_scale
        Of :class:`~experiments.models.velocity.base.FourierFeatures`.
    """

    embed = staticmethod(embed_vector)

    def __init__(
        self,
        spec: DataSpec,
        network: Annotated[
            Callable[..., LGATr],
            Supplied("in_mv_channels", "in_s_channels", "out_mv_channels", "out_s_channels"),
        ],
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: Positive,
        time_scale: Positive = TIME_SCALE,
    ) -> None:
        references = symmetry_breaking.multivectors()
        super().__init__(particles_of(spec), attention, references, momentum_unit, time_scale)
        self.network = network(
            in_mv_channels=1,
            in_s_channels=self.feature_channels,
            out_mv_channels=1,
            out_s_channels=SCALARS,
        )


class SlimField(NetworkField):
    """The same of L-GATr-slim; its reference vectors are vectors, so no plane.

    Parameters
    ----------
    spec, symmetry_breaking, attention, momentum_unit, time_scale
        As of :class:`LGATrField`.
    network
        Makes an :class:`lgatr.LGATrSlim` from its numbers of input and output channels.
    """

    def __init__(
        self,
        spec: DataSpec,
        network: Annotated[
            Callable[..., LGATrSlim],
            Supplied("in_v_channels", "in_s_channels", "out_v_channels", "out_s_channels"),
        ],
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: Positive,
        time_scale: Positive = TIME_SCALE,
    ) -> None:
        references = symmetry_breaking.vectors()
        super().__init__(particles_of(spec), attention, references, momentum_unit, time_scale)
        self.network = network(
            in_v_channels=1,
            in_s_channels=self.feature_channels,
            out_v_channels=1,
            out_s_channels=SCALARS,
        )
