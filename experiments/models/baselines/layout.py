"""Convert packed events to the layouts of other packages: padded, or pairs of particles.

Legend: T particles, N particles and references, B events, P places of a padded event, E pairs,
S scalars.
"""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.data.batch import EventBatch
from lgatr import Packing


def pad_events(values: Tensor, packing: Packing, min_places: int = 1) -> tuple[Tensor, Tensor]:
    """Pad values ``(T, C)`` of particles to ``(B, P, C)``; returns them and the mask ``(B, P)``.

    Parameters
    ----------
    values, packing
        Values and packing of the particles.
    min_places
        Minimum of P, which else is the length of the longest event.
    """
    places = max(packing.max_length, min_places)
    event = packing.batch_index()
    place = torch.arange(packing.num_tokens, device=values.device) - packing.ptr[event]
    flat = event * places + place
    padded = values.new_zeros(packing.num_events * places, values.shape[1])
    padded = padded.index_copy(0, flat, values).unflatten(0, (-1, places))
    real = torch.zeros(padded.shape[:2].numel(), dtype=torch.bool, device=values.device)
    return padded, real.index_fill(0, flat, True).unflatten(0, (-1, places))


def pairs(packing: Packing, loops: bool) -> tuple[Tensor, Tensor]:
    """Indices ``(E,)`` of both members of all ordered pairs within events, sorted by the first.

    Parameters
    ----------
    packing
        Packing of the particles.
    loops
        Whether to include pairs of a particle with itself.
    """
    lengths = packing.ptr.diff().long()
    partners = lengths if loops else lengths - 1
    counts = lengths * partners
    total = sum(n * (n if loops else n - 1) for n in packing.lengths)
    events = torch.arange(len(counts), device=counts.device)
    event = events.repeat_interleave(counts, output_size=total)
    number = torch.arange(total, device=counts.device) - (counts.cumsum(0) - counts)[event]
    first = torch.div(number, partners[event], rounding_mode="floor")
    second = number % partners[event]
    if not loops:
        second = second + (second >= first)
    start = packing.ptr[:-1].long()[event]
    return start + first, start + second


def with_references(
    batch: EventBatch, momenta: Tensor, references: Tensor
) -> tuple[Tensor, Tensor, Packing]:
    """Put reference vectors as further particles before those of every event.

    Returns
    -------
    vectors
        ``(N, 4)``.
    scalars
        ``(N, 1 + S)``; the first marks references, whose other scalars are zero.
    packing
        Packing of particles and references.
    """
    count = len(references)
    packing, new, old = batch.packing.prepend(count)
    vectors = momenta.new_zeros(packing.num_tokens, 4).index_copy(0, old, momenta)
    repeated = references.to(momenta.dtype).expand(packing.num_events, -1, -1).flatten(0, 1)
    vectors = vectors.index_copy(0, new.flatten(), repeated)
    marks = momenta.new_zeros(packing.num_tokens, 1).index_fill(0, new.flatten(), 1.0)
    scalars = momenta.new_zeros(packing.num_tokens, batch.scalars.shape[1])
    scalars = scalars.index_copy(0, old, batch.scalars.to(momenta.dtype))
    return vectors, torch.cat([marks, scalars], dim=1), packing


def event_mean(values: Tensor, packing: Packing) -> Tensor:
    """Mean over the particles of each event: ``(T, C)`` to ``(B, C)``."""
    total = values.new_zeros(packing.num_events, values.shape[1])
    total = total.index_add(0, packing.batch_index(), values)
    return total / packing.ptr.diff().unsqueeze(1)
