"""Tokens of events: a global one, reference vectors, and the particles.

Legend: T particles, B events, N tokens of all events, W numbers of a channel (16 or 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.data.batch import EventBatch
from lgatr import Packing


@dataclass(frozen=True)
class Tokens:
    """What a network takes.

    Parameters
    ----------
    channels
        ``(N, channels, W)``.
    scalars
        ``(N, 1 + S)``; the first marks the global token, without which all tokens would start
        alike.
    packing
        Of the tokens.
    first
        ``(B,)``, place of each event's global token.
    """

    channels: Tensor
    scalars: Tensor
    packing: Packing
    first: Tensor


def event_tokens(
    batch: EventBatch, particles: Tensor, references: Tensor, as_channels: bool
) -> Tokens:
    """A global token before every event, and reference vectors as tokens or as channels.

    Parameters
    ----------
    batch
        The events.
    particles
        ``(T, W)``.
    references
        ``(n, W)``.
    as_channels
        Whether every token gets the references as further channels.
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
