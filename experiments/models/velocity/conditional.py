"""Velocity fields that depend on another event, such as what a detector has seen (unfolding).

Legend: B events, P particles of each, U particles of each condition, R reference vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.flows.state import FlowState
from experiments.models.symmetry import SymmetryBreaking
from experiments.models.velocity.base import (
    SCALARS,
    TIME_SCALE,
    NetworkField,
    particles_of,
    vectors_of,
)
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import Positive, Supplied
from lgatr import (
    ConditionalLGATr,
    ConditionalLGATrSlim,
    LGATr,
    LGATrSlim,
    embed_vector,
)
from lgatr.nets.base import Network


class ConditionalField(NetworkField):
    """Base of such fields: an encoder of the condition, and a decoder that attends to it.

    Parameters
    ----------
    spec
        Specification of the data set.
    attention, references, momentum_unit, time_scale
        As of :class:`NetworkField`.
    """

    encoder: Network

    def __init__(
        self,
        spec: DataSpec,
        attention: AttentionChoice,
        references: Tensor,
        momentum_unit: float,
        time_scale: float = TIME_SCALE,
    ) -> None:
        if not spec.conditional:
            raise UserError("model: it needs a condition of every event; set data.conditional=true")
        particles = particles_of(spec, conditional=True)
        super().__init__(particles, attention, references, momentum_unit, time_scale)

    def forward(self, state: FlowState) -> Tensor:
        """Velocity ``(B, P, 4)`` of standardised coordinates."""
        assert state.condition is not None
        channels, scalars = self.tokens(state)
        seen, which = self._condition(state.condition)
        events, tokens = channels.shape[:2]
        packing = self.packed(events, tokens, channels.device)
        of_condition = self.packed(events, seen.shape[1], channels.device)
        keywords = self.attention.keywords
        encoded, features = self.encoder(
            seen.flatten(0, 1).unsqueeze(1), which.flatten(0, 1), packing=of_condition, **keywords
        )
        out, of_scalars = self.network(
            channels.flatten(0, 1).unsqueeze(1),
            encoded,
            scalars.flatten(0, 1),
            features,
            {"packing": packing, **keywords},
            {"packing": packing, "kv_packing": of_condition, **keywords},
        )
        assert of_scalars is not None
        return self.velocity(
            state,
            vectors_of(out).unflatten(0, (events, tokens))[:, : self.particles],
            of_scalars.unflatten(0, (events, tokens))[:, : self.particles],
        )

    def _condition(self, momenta: Tensor) -> tuple[Tensor, Tensor]:
        """Channels ``(B, U + R, W)`` and which particle it is, ``(B, U + R, U)``."""
        dtype, (events, particles) = self.references.dtype, momenta.shape[:2]
        channels = self.embed(momenta / self.momentum_unit).to(dtype)
        references = self.references.expand(events, -1, -1)
        which = torch.eye(particles + len(references[0]), particles, dtype=dtype)
        which = which.to(momenta.device).expand(events, -1, -1)
        return torch.cat([channels, references], dim=1), which


class ConditionalLGATrField(ConditionalField):
    """Such a field of L-GATr.

    Parameters
    ----------
    spec
        Specification of the data set.
    encoder, network
        Make an :class:`lgatr.LGATr` and an :class:`lgatr.ConditionalLGATr` from their numbers of
        channels.
    condition_mv_channels, condition_s_channels
        Channels of the encoded condition.
    symmetry_breaking, attention, momentum_unit, time_scale
        As of :class:`~experiments.models.velocity.lgatr.LGATrField`.
    """

    embed = staticmethod(embed_vector)

    def __init__(
        self,
        spec: DataSpec,
        encoder: Annotated[
            Callable[..., LGATr],
            Supplied("in_mv_channels", "in_s_channels", "out_mv_channels", "out_s_channels"),
        ],
        network: Annotated[
            Callable[..., ConditionalLGATr],
            Supplied(
                "in_mv_channels", "in_s_channels", "out_mv_channels", "out_s_channels",
                "mv_channels_cond", "s_channels_cond",
            ),
        ],
        condition_mv_channels: int,
        condition_s_channels: int,
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: Positive,
        time_scale: Positive = TIME_SCALE,
    ) -> None:  # fmt: skip
        references = symmetry_breaking.multivectors()
        super().__init__(spec, attention, references, momentum_unit, time_scale)
        self.encoder = encoder(
            in_mv_channels=1,
            in_s_channels=self.particles,
            out_mv_channels=condition_mv_channels,
            out_s_channels=condition_s_channels,
        )
        self.network = network(
            in_mv_channels=1,
            mv_channels_cond=condition_mv_channels,
            in_s_channels=self.feature_channels,
            s_channels_cond=condition_s_channels,
            out_mv_channels=1,
            out_s_channels=SCALARS,
        )


class ConditionalSlimField(ConditionalField):
    """Such a field of L-GATr-slim.

    Parameters
    ----------
    spec, symmetry_breaking, attention, momentum_unit, time_scale
        As of :class:`ConditionalLGATrField`.
    encoder, network
        Make an :class:`lgatr.LGATrSlim` and an :class:`lgatr.ConditionalLGATrSlim` from their
        numbers of channels.
    condition_v_channels, condition_s_channels
        Channels of the encoded condition.
    """

    def __init__(
        self,
        spec: DataSpec,
        encoder: Annotated[
            Callable[..., LGATrSlim],
            Supplied("in_v_channels", "in_s_channels", "out_v_channels", "out_s_channels"),
        ],
        network: Annotated[
            Callable[..., ConditionalLGATrSlim],
            Supplied(
                "in_v_channels", "in_s_channels", "out_v_channels", "out_s_channels",
                "v_channels_cond", "s_channels_cond",
            ),
        ],
        condition_v_channels: int,
        condition_s_channels: int,
        symmetry_breaking: SymmetryBreaking,
        attention: AttentionChoice,
        momentum_unit: Positive,
        time_scale: Positive = TIME_SCALE,
    ) -> None:  # fmt: skip
        references = symmetry_breaking.vectors()
        super().__init__(spec, attention, references, momentum_unit, time_scale)
        self.encoder = encoder(
            in_v_channels=1,
            in_s_channels=self.particles,
            out_v_channels=condition_v_channels,
            out_s_channels=condition_s_channels,
        )
        self.network = network(
            in_v_channels=1,
            v_channels_cond=condition_v_channels,
            in_s_channels=self.feature_channels,
            s_channels_cond=condition_s_channels,
            out_v_channels=1,
            out_s_channels=SCALARS,
        )
