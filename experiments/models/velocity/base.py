"""What velocity fields share: features of time, tokens, and velocities from momentum space.

Legend: B events, P particles of each, R reference vectors, W components of a channel (16 of a
multivector, 4 of a vector), F features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.flows.state import FlowState
from experiments.options.attention_choice import AttentionChoice
from lgatr import Packing, extract_vector
from lgatr.attention import Attention
from lgatr.nets.base import Network

TIME_FEATURES, TIME_SCALE = 8, 30.0
SCALARS = 2
"""Scalar outputs of networks: velocities of what coordinates call ``scalar_components``."""


def particles_of(spec: DataSpec, conditional: bool = False) -> int:
    """How many particles the events of a specification have.

    Parameters
    ----------
    spec
        Specification of the data set.
    conditional
        Whether the model takes conditions.

    Raises
    ------
    UserError
        If it is of data that are not generated, or with conditions that the model does not take.
    """
    if spec.final_state is None:
        raise UserError(f"model: it generates events, and these data have {spec.described}")
    if spec.conditional and not conditional:
        raise UserError(
            "model: it takes no conditions; set data.conditional=false, or choose one that ends in "
            "_unfolding"
        )
    return len(spec.final_state.names)


def vectors_of(channels: Tensor) -> Tensor:
    """Vectors ``(tokens, 4)`` of the only channel ``(tokens, 1, W)``."""
    return channels[:, 0] if channels.shape[-1] == 4 else extract_vector(channels)[:, 0]


class FourierFeatures(nn.Module):
    """Cosines and sines of time at fixed random frequencies (arXiv:2006.10739).

    Parameters
    ----------
    scale
        Standard deviation of the frequencies, in oscillations while time goes from 0 to 1. Large
        ones resolve sudden changes; with small ones fields are smooth in time, are learned in
        fewer steps, and are followed accurately with fewer steps of a solver.
    """

    frequencies: Tensor

    def __init__(self, scale: float = TIME_SCALE) -> None:
        super().__init__()
        drawn = torch.randn(TIME_FEATURES, generator=torch.Generator().manual_seed(0))
        self.register_buffer("frequencies", 2 * math.pi * scale * drawn)

    @property
    def channels(self) -> int:
        """Number of features F."""
        return 2 * TIME_FEATURES

    def forward(self, time: Tensor) -> Tensor:
        """Features ``(B, F)`` of times ``(B,)``."""
        phase = time[:, None].to(self.frequencies) * self.frequencies
        return torch.cat([phase.cos(), phase.sin()], dim=1)


class VelocityField(nn.Module):
    """Base of velocity fields that attend to the particles of an event.

    Parameters
    ----------
    particles
        Particles of each event P, which the field tells apart.
    attention
        Attention backend.
    time_scale
        Of :class:`FourierFeatures`.
    """

    last_attention: Attention | None = None
    """Attention of the last batch."""

    def __init__(
        self, particles: int, attention: AttentionChoice, time_scale: float = TIME_SCALE
    ) -> None:
        super().__init__()
        attention.check_plain("a velocity field")
        self.particles, self.attention = particles, attention
        self.of_time = FourierFeatures(time_scale)

    @property
    def executed_attention(self) -> str:
        """Name of the backend that computed the last batch, or ``none`` before the first."""
        last = self.last_attention
        return "none" if last is None else last.backend.name

    @property
    def feature_channels(self) -> int:
        """Number of scalar features F of a particle."""
        return self.particles + self.of_time.channels

    def features(self, state: FlowState, dtype: torch.dtype) -> Tensor:
        """Which particle it is, and the time: ``(B, P, F)``."""
        time = self.of_time(state.time).to(dtype)
        events = len(time)
        which = torch.eye(self.particles, dtype=dtype, device=time.device)
        return torch.cat(
            [which.expand(events, -1, -1), time[:, None].expand(-1, self.particles, -1)], dim=2
        )

    def packed(self, events: int, tokens: int, device: torch.device) -> Packing:
        """The packing of events that have the same number of tokens."""
        return Packing.from_lengths([tokens] * events).to(device)

    def forward(self, state: FlowState) -> Tensor:
        """Velocity ``(B, P, 4)`` of standardised coordinates."""
        raise NotImplementedError


class NetworkField(VelocityField):
    """A field of one of the networks of :mod:`lgatr`: its vectors are velocities of momenta.

    They become velocities of coordinates by the derivative of these, so that the field is as
    equivariant as the network; what these call ``scalar_components`` are scalars.

    Parameters
    ----------
    particles, attention, time_scale
        As of :class:`VelocityField`.
    references
        ``(R, W)`` reference vectors, multivectors or vectors, as further tokens of every event.
    momentum_unit
        Four-momenta are divided by this many GeV.
    """

    network: Network
    references: Tensor

    def __init__(
        self,
        particles: int,
        attention: AttentionChoice,
        references: Tensor,
        momentum_unit: float,
        time_scale: float = TIME_SCALE,
    ) -> None:
        super().__init__(particles, attention, time_scale)
        self.momentum_unit = momentum_unit
        self.register_buffer("references", references, persistent=False)

    @property
    def last_attention(self) -> Attention | None:  # type: ignore[override]
        """Attention of the last batch."""
        return self.network.last_attention

    @staticmethod
    def embed(momenta: Tensor, /) -> Tensor:
        """Map momenta ``(..., 4)`` in units of the network to channels ``(..., W)``."""
        return momenta

    def tokens(self, state: FlowState) -> tuple[Tensor, Tensor]:
        """Channels ``(B, P + R, W)`` and scalars ``(B, P + R, F)``; particles come first."""
        dtype, events = self.references.dtype, len(state.time)
        channels = self.embed(state.momenta / self.momentum_unit).to(dtype)
        features = self.features(state, dtype)
        count = len(self.references)
        if not count:
            return channels, features
        blank = features.new_zeros(events, count, features.shape[2])
        blank[..., self.particles :] = features[:, :1, self.particles :]  # the time
        return (
            torch.cat([channels, self.references.expand(events, -1, -1)], dim=1),
            torch.cat([features, blank], dim=1),
        )

    def forward(self, state: FlowState) -> Tensor:
        """Velocity ``(B, P, 4)`` of standardised coordinates."""
        channels, scalars = self.tokens(state)
        events, tokens = channels.shape[:2]
        packing = self.packed(events, tokens, channels.device)
        out, of_scalars = self.network(
            channels.flatten(0, 1).unsqueeze(1), scalars.flatten(0, 1), packing=packing,
            **self.attention.keywords,
        )  # fmt: skip
        assert of_scalars is not None
        return self.velocity(
            state,
            vectors_of(out).unflatten(0, (events, tokens))[:, : self.particles],
            of_scalars.unflatten(0, (events, tokens))[:, : self.particles],
        )

    def velocity(self, state: FlowState, vectors: Tensor, scalars: Tensor) -> Tensor:
        """The velocity of coordinates, of that of momenta in units of the network, and scalars."""
        of_momenta = vectors.double() * self.momentum_unit
        found = state.coordinates.velocity(state.momenta, of_momenta).to(vectors.dtype)
        columns = list(found.unbind(-1))
        for place, component in enumerate(state.coordinates.scalar_components):
            columns[component] = scalars[..., place]
        return state.coordinates.kept(torch.stack(columns, dim=-1))
