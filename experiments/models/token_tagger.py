"""What taggers that attend to tokens share: tokens of events, references, attention options.

Legend: T particles, B events, N tokens of all events, S scalar features, W components of a channel
(16 of a multivector, 4 of a vector).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.data.batch import EventBatch
from experiments.errors import UserError
from experiments.options.attention_choice import AttentionChoice
from lgatr import Packing, extract_vector
from lgatr.attention import Attention
from lgatr.nets.base import Network


@dataclass(frozen=True)
class Tokens:
    """The input of a network: for each event a global token, references, and the particles.

    Parameters
    ----------
    channels
        ``(N, channels, W)``.
    scalars
        ``(N, 1 + S)``; the first is 1 for the global token and 0 for all others.
    packing
        Packing of the tokens.
    first
        ``(B,)`` index of each event's global token.
    """

    channels: Tensor
    scalars: Tensor
    packing: Packing
    first: Tensor


def event_tokens(
    batch: EventBatch, particles: Tensor, references: Tensor, as_channels: bool
) -> Tokens:
    """Put a global token before every event, and references beside it or into every token.

    Parameters
    ----------
    batch
        The events.
    particles
        ``(T, W)``.
    references
        ``(n, W)``.
    as_channels
        Whether references are further channels of every token, or tokens of every event.
    """
    tokens = 0 if as_channels else len(references)
    packing, new, old = batch.packing.prepend(1 + tokens)
    events, total = packing.num_events, packing.num_tokens
    vectors = particles.new_zeros(total, particles.shape[1]).index_copy(0, old, particles)
    if tokens:
        repeated = references.expand(events, -1, -1).flatten(0, 1)
        vectors = vectors.index_copy(0, new[:, 1:].flatten(), repeated)
    channels = vectors.unsqueeze(1)
    if as_channels:
        channels = torch.cat([channels, references.expand(total, -1, -1)], dim=1)
    marks = particles.new_zeros(total, 1).index_fill(0, new[:, 0], 1.0)
    features = particles.new_zeros(total, batch.scalars.shape[1])
    scalars = torch.cat(
        [marks, features.index_copy(0, old, batch.scalars.to(features.dtype))], dim=1
    )
    return Tokens(channels, scalars, packing, new[:, 0])


class TokenTagger(nn.Module):
    """Base of taggers that are read out at a global token of every event.

    A subclass implements :meth:`logits`, and :meth:`embed` if its channels are not four-vectors.

    Parameters
    ----------
    references
        ``(n, W)`` reference vectors, multivectors or vectors.
    as_channels
        Whether references are further channels of every token, or tokens of every event.
    attention
        Attention backend.
    momentum_unit
        Four-momenta are divided by this many GeV.
    """

    references: Tensor
    last_attention: Attention | None = None
    """Attention of the last batch."""

    def __init__(
        self,
        references: Tensor,
        as_channels: bool,
        attention: AttentionChoice,
        momentum_unit: float,
    ) -> None:
        super().__init__()
        self.attention, self.momentum_unit = attention, momentum_unit
        self.as_channels = as_channels
        self.pairs: nn.Module | None = None
        self.register_buffer("references", references, persistent=False)

    def add_pairs(self, heads: int, symmetric: bool) -> None:
        """Add the weights of a pairwise score, if attention has one.

        Parameters
        ----------
        heads
            Of the network.
        symmetric
            Whether the network is equivariant up to its reference vectors.

        Raises
        ------
        UserError
            If the score would break a symmetry that the network keeps.
        """
        score = self.attention.score
        weights = None if score is None else score.weights(heads)
        if score is None or weights is None:
            return
        if symmetric and not score.is_invariant and not len(self.references):
            raise UserError(
                f"attention/score={type(score).__name__.lower()}: this network has no reference "
                f"vectors that break the symmetry, and {score.remedy}"
            )
        self.pairs = weights

    def attention_of(self, tokens: Tokens) -> dict[str, Any]:
        """Keywords of attention for a batch."""
        if self.pairs is None:
            return self.attention.keywords
        channels = tokens.channels[:, 0]
        momenta = channels if channels.shape[1] == 4 else extract_vector(channels)
        return {**self.attention.keywords, "score": self.pairs(momenta)}

    @property
    def executed_attention(self) -> str:
        """Name of the backend that computed the last batch, or ``none`` before the first."""
        last = self.last_attention
        return "none" if last is None else last.backend.name

    @staticmethod
    def embed(momenta: Tensor, /) -> Tensor:
        """Map momenta ``(T, 4)`` in units of the network to channels ``(T, W)``."""
        return momenta

    def logits(self, tokens: Tokens) -> Tensor:
        """Map tokens to logits ``(B, outputs)``."""
        raise NotImplementedError

    def forward(self, batch: EventBatch) -> Tensor:
        """Map a batch to logits ``(B, outputs)``."""
        momenta = batch.fourmomenta / self.momentum_unit
        particles = self.embed(momenta).to(self.references.dtype)
        return self.logits(event_tokens(batch, particles, self.references, self.as_channels))


class NetworkTagger(TokenTagger):
    """A :class:`TokenTagger` around ``network``, one of the networks of :mod:`lgatr`.

    The logits are invariants of the global token: the network's output scalars, or the scalar
    components of its multivectors if it has no others.
    """

    network: Network

    def logits(self, tokens: Tokens) -> Tensor:
        """Logits ``(B, outputs)``."""
        channels, scalars = self.network(
            tokens.channels, tokens.scalars, packing=tokens.packing, **self.attention_of(tokens)
        )
        outputs: Tensor = channels[..., 0] if scalars is None else scalars
        return outputs[tokens.first]

    @property
    def last_attention(self) -> Attention | None:  # type: ignore[override]
        """Attention of the last batch."""
        return self.network.last_attention

    @property
    def recordable(self) -> bool:
        """Whether a CUDA graph can hold the forward pass."""
        plain = self.attention.mask is None and self.attention.score is None
        return plain and not (self.network.checkpoint_blocks or self.network.compiles_blocks)


def heads_of(network: nn.Module) -> int:
    """Heads of the attention layers of a network."""
    for module in network.modules():
        if isinstance(heads := getattr(module, "heads", None), int):
            return heads
    raise UserError(f"attention.score: {type(network).__name__} has no attention that takes one")
