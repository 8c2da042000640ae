"""A causal transformer that generates an event number by number (JetGPT, arXiv:2305.10475).

Each coordinate of each particle follows a mixture of normal distributions, wrapped around the
circle for phi, whose parameters depend on all coordinates before it.

Legend: B events, D coordinates of an event that are free, K parts of the mixture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.data.batch import DataSpec
from experiments.flows.coordinates import LOG_M2, PHI
from experiments.models.transformer import Block
from experiments.models.velocity.base import particles_of
from experiments.options.attention_choice import AttentionChoice
from experiments.options.markers import Count, Dropout
from lgatr import Packing
from lgatr.attention import Attention, PagedCache, prepare_attention

_INPUTS = 3
_NARROWEST, _WIDEST = -7.0, 1.5
"""Of logarithms of widths: a wrapped distribution of two turns is uniform."""
_TURNS = 3
_PAGE = 16


class MixtureTransformer(nn.Module):
    """The network and its distributions.

    Parameters
    ----------
    spec
        Specification of the data set.
    num_blocks, num_heads, head_width, mlp_ratio, dropout
        As of :class:`~experiments.models.transformer.Transformer`.
    mixtures
        K.
    attention
        Attention backend of training; generation uses a cache, natively.
    """

    is_angle: Tensor
    last_attention: Attention | None = None
    """Attention of the last batch."""

    def __init__(
        self,
        spec: DataSpec,
        num_blocks: Count,
        num_heads: Count,
        head_width: Count,
        mlp_ratio: Count,
        dropout: Dropout,
        mixtures: Count,
        attention: AttentionChoice,
    ) -> None:
        super().__init__()
        attention.check_plain("a generator of one coordinate after the other")
        particles_of(spec)
        assert spec.final_state is not None
        free = [
            (particle, component)
            for particle, mass in enumerate(spec.final_state.masses)
            for component in range(4)
            if component != LOG_M2 or mass is None
        ]
        self.places = [4 * particle + component for particle, component in free]
        angles = torch.tensor([component == PHI for _, component in free])
        self.register_buffer("is_angle", angles, persistent=False)
        self.attention, self.mixtures = attention, mixtures
        channels = num_heads * head_width
        self.embedding = nn.Linear(_INPUTS, channels)
        self.position = nn.Parameter(0.02 * torch.randn(len(free), channels))
        self.blocks = nn.ModuleList(
            Block(channels, num_heads, mlp_ratio, dropout, None) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 3 * mixtures)

    @property
    def executed_attention(self) -> str:
        """Name of the backend that computed the last batch, or ``none`` before the first."""
        last = self.last_attention
        return "none" if last is None else last.backend.name

    def free(self, x: Tensor) -> Tensor:
        """The free ones ``(B, D)`` of coordinates ``(B, P, 4)``."""
        return x.flatten(1)[:, self.places]

    def whole(self, values: Tensor, particles: int) -> Tensor:
        """Coordinates ``(B, P, 4)`` of free ones ``(B, D)``; others are zero."""
        found = values.new_zeros(len(values), 4 * particles)
        found[:, self.places] = values
        return found.unflatten(1, (particles, 4))

    def _tokens(self, values: Tensor, first: int) -> Tensor:
        """Channels of coordinates ``(B, n)`` that come before those from ``first`` on."""
        dtype = self.head.weight.dtype
        place = torch.arange(first, first + values.shape[1], device=values.device)
        angle = torch.where(place > 0, self.is_angle[(place - 1).clamp_min(0)], False)
        plain = torch.where(angle, 0.0, values)
        parts = torch.stack(
            [plain, torch.where(angle, values.cos(), 0.0), torch.where(angle, values.sin(), 0.0)],
            dim=-1,
        )
        channels: Tensor = self.embedding(parts.to(dtype)) + self.position[place]
        return channels

    def _read(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.norm(x))
        return found

    def forward(self, values: Tensor) -> Tensor:
        """Parameters ``(B, D, 3 K)`` of the distributions of coordinates ``(B, D)``."""
        before = F.pad(values[:, :-1], (1, 0))
        x = self._tokens(before, 0)
        packing = Packing.from_lengths([x.shape[1]] * len(x)).to(x.device)
        attend = prepare_attention(
            x.device, x.dtype, packing=packing, is_causal=True, **self.attention.keywords
        )
        flat = x.flatten(0, 1)
        for block in self.blocks:
            flat = block(flat, attend)
        self.last_attention = attend
        return self._read(flat).unflatten(0, x.shape[:2])

    def log_density(self, parameters: Tensor, values: Tensor) -> Tensor:
        """Logarithm of the density of every coordinate given those before: ``(B, D)``.

        Parameters
        ----------
        parameters
            ``(B, D, 3 K)``.
        values
            ``(B, D)``.
        """
        weights, means, widths = self._mixture(parameters)
        distance = values.to(parameters.dtype)[..., None] - means
        turned = torch.remainder(distance + math.pi, 2 * math.pi) - math.pi
        turns = 2 * math.pi * torch.arange(-_TURNS, _TURNS + 1, device=values.device)
        around = _normal(turned[..., None] + turns, widths[..., None]).logsumexp(-1)
        parts = torch.where(self.is_angle[:, None], around, _normal(distance, widths))
        return (weights + parts).logsumexp(-1)

    @staticmethod
    def _mixture(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms of weights, means and widths, each ``(..., K)``."""
        weights, means, log_widths = parameters.chunk(3, dim=-1)
        return weights.log_softmax(-1), means, log_widths.clamp(_NARROWEST, _WIDEST).exp()

    def generate(self, numbers: Sequence[int], seed: int) -> Tensor:
        """Coordinates ``(B, D)`` in float64; each event depends on its number and the seed alone.

        Keys and values of what is there already are kept in a paged cache.
        """
        events, count = len(numbers), len(self.places)
        device, dtype = self.head.weight.device, self.head.weight.dtype
        uniform = torch.from_numpy(
            np.stack([
                np.random.Generator(np.random.Philox(key=[seed, number])).random((count, 2))
                for number in numbers
            ])
        ).to(device)  # fmt: skip
        cache = PagedCache(events * -(-count // _PAGE), _PAGE)
        sequences = [cache.new() for _ in range(events)]
        packing = Packing.from_lengths([1] * events).to(device)
        values = torch.zeros(events, count, dtype=torch.float64, device=device)
        with torch.no_grad():
            for place in range(count):
                before = values[:, place - 1 : place] if place else torch.zeros_like(values[:, :1])
                x = self._tokens(before, place).flatten(0, 1)
                attend = prepare_attention(
                    device, dtype, packing=packing, cache=(cache, sequences), backend="native"
                )
                for block in self.blocks:
                    x = block(x, attend)
                drawn = self._drawn(self._read(x).double(), uniform[:, place])
                if self.is_angle[place]:
                    drawn = torch.remainder(drawn + math.pi, 2 * math.pi) - math.pi
                values[:, place] = drawn
        return values

    def _drawn(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """A number for each mixture ``(B, 3 K)`` by two uniform ones ``(B, 2)``."""
        weights, means, widths = self._mixture(parameters)
        below = weights.exp().cumsum(-1)[:, :-1]
        part = (uniform[:, :1] > below).sum(-1, keepdim=True)
        mean, width = means.gather(1, part)[:, 0], widths.gather(1, part)[:, 0]
        return mean + width * torch.special.ndtri(uniform[:, 1].clamp(1e-12, 1 - 1e-12))


def _normal(distance: Tensor, width: Tensor) -> Tensor:
    return -0.5 * (distance / width).square() - width.log() - 0.5 * math.log(2 * math.pi)
