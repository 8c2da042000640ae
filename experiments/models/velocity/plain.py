"""Velocity fields without symmetry: a transformer and a perceptron on coordinates.

Legend: B events, P particles of each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.data.batch import DataSpec
from experiments.flows.state import FlowState
from experiments.models.invariants import dtype_of, perceptron
from experiments.models.transformer import Block
from experiments.models.velocity.base import (
    TIME_SCALE,
    FourierFeatures,
    VelocityField,
    particles_of,
)
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import Count, Dropout, Positive
from lgatr.attention import prepare_attention

_INPUTS = 5


class TransformerField(VelocityField):
    """A plain transformer on coordinates.

    Parameters
    ----------
    spec
        Specification of the data set.
    num_blocks, num_heads, head_width, mlp_ratio, dropout
        As of :class:`~experiments.models.transformer.Transformer`.
    attention
        Attention backend.
    time_scale
        Of :class:`~experiments.models.velocity.base.FourierFeatures`.
    """

    def __init__(
        self,
        spec: DataSpec,
        num_blocks: Count,
        num_heads: Count,
        head_width: Count,
        mlp_ratio: Count,
        dropout: Dropout,
        attention: AttentionChoice,
        time_scale: Positive = TIME_SCALE,
    ) -> None:
        super().__init__(particles_of(spec), attention, time_scale)
        channels = num_heads * head_width
        self.embedding = nn.Linear(_INPUTS + self.feature_channels, channels)
        self.blocks = nn.ModuleList(
            Block(channels, num_heads, mlp_ratio, dropout, None) for _ in range(num_blocks)
        )
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, 4)

    def forward(self, state: FlowState) -> Tensor:
        """Velocity ``(B, P, 4)`` of standardised coordinates."""
        dtype = self.head.weight.dtype
        found = torch.cat(
            [state.coordinates.inputs(state.x).to(dtype), self.features(state, dtype)], dim=2
        )
        x = self.embedding(found.flatten(0, 1))
        packing = self.packed(len(found), self.particles, x.device)
        attend = prepare_attention(x.device, x.dtype, packing=packing, **self.attention.keywords)
        for block in self.blocks:
            x = block(x, attend)
        self.last_attention = attend
        velocity: Tensor = self.head(self.norm(x)).unflatten(0, found.shape[:2])
        return state.coordinates.kept(velocity)


class MLPField(nn.Module):
    """A perceptron on the coordinates of all particles.

    Parameters
    ----------
    spec
        Specification of the data set.
    hidden_channels, num_layers
        Width and number of the hidden layers.
    time_scale
        As of :class:`TransformerField`.
    """

    def __init__(
        self,
        spec: DataSpec,
        hidden_channels: Count,
        num_layers: Count,
        time_scale: Positive = TIME_SCALE,
    ) -> None:
        super().__init__()
        self.of_time, particles = FourierFeatures(time_scale), particles_of(spec)
        channels = _INPUTS * particles + self.of_time.channels
        self.layers = perceptron(channels, [hidden_channels] * num_layers, 4 * particles)

    def forward(self, state: FlowState) -> Tensor:
        """Velocity ``(B, P, 4)`` of standardised coordinates."""
        dtype = dtype_of(self)
        time = self.of_time(state.time).to(dtype)
        x = state.coordinates.inputs(state.x).to(dtype)
        found = torch.cat([x.flatten(1), time], dim=1)
        velocity: Tensor = self.layers(found).unflatten(1, (-1, 4))
        return state.coordinates.kept(velocity)
