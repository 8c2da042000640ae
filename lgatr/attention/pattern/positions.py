"""Where attention scores stand: what masks and score modifications are functions of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Positions(NamedTuple):
    """Whole numbers that broadcast to ``(events, heads, queries, keys)``.

    Backends give them as they compute: blocks of many scores, or one score at a time inside a
    kernel. Positions ``q`` and ``k`` count from 0 in each event; tokens count from 0 in the whole
    batch. In a dense batch, event i owns tokens ``i * items`` to ``(i + 1) * items``.
    """

    event: Tensor
    head: Tensor
    q: Tensor
    k: Tensor
    q_length: Tensor | int
    k_length: Tensor | int
    q_token: Tensor
    k_token: Tensor


def block_positions(
    events: range,
    heads: int,
    q: range,
    k: range,
    lengths: tuple[int, int],
    first_tokens: tuple[int, int],
    device: torch.device | str = "cpu",
) -> Positions:
    """Positions of a block of scores of neighbouring events with equal lengths.

    Parameters
    ----------
    events
        Numbers of the events in the batch.
    heads
        Number of heads.
    q, k
        Positions inside the events.
    lengths
        Numbers of queries and keys of each event.
    first_tokens
        First query token and first key token of the first event.
    device
        Where the numbers are made.
    """

    def numbers(values: range, dim: int) -> Tensor:
        shape = [1, 1, 1, 1]
        shape[dim] = len(values)
        return torch.arange(values.start, values.stop, device=device).view(shape)

    inside = numbers(range(len(events)), 0)
    query, key = numbers(q, 2), numbers(k, 3)
    return Positions(
        event=inside + events.start,
        head=numbers(range(heads), 1),
        q=query,
        k=key,
        q_length=lengths[0],
        k_length=lengths[1],
        q_token=first_tokens[0] + inside * lengths[0] + query,
        k_token=first_tokens[1] + inside * lengths[1] + key,
    )
