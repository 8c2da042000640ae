"""Which events of a packed batch are computed together, and in which order.

Torch's dense kernel takes events of equal length in one call, so neighbours of equal length form a
group; where that saves enough calls, events are sorted by length first.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from torch import Tensor


class Groups(NamedTuple):
    """Groups of neighbouring events with equal numbers of queries and of keys, in order."""

    events: tuple[int, ...]
    queries: tuple[int, ...]
    keys: tuple[int, ...]

    def tokens(self, lengths: tuple[int, ...]) -> list[int]:
        """Tokens of each group, where an event has ``lengths`` tokens."""
        return [n * length for n, length in zip(self.events, lengths, strict=True)]


# Every layer of a forward pass asks again for the same batch.
@lru_cache(maxsize=8)
def groups_of(queries: tuple[int, ...], keys: tuple[int, ...]) -> Groups:
    """Cut a batch of events with these lengths into groups."""
    found = [(len(list(group)), n, m) for (n, m), group in groupby(zip(queries, keys, strict=True))]
    events, lengths, key_lengths = zip(*found, strict=True)
    return Groups(events, lengths, key_lengths)


class Arrangement(NamedTuple):
    """Groups, and the order of events and tokens that has them; None is the order as it is."""

    groups: Groups
    q_order: tuple[Tensor, Tensor] | None
    k_order: tuple[Tensor, Tensor] | None
    events: tuple[int, ...] | None = None


# What one call costs, and what moving a byte costs, in seconds (CPU, forward and backward).
_CALL = 1.2e-4
_BYTE = 1.0 / 2.0e9


def _token_order(lengths: tuple[int, ...], order: list[int]) -> tuple[Tensor, Tensor]:
    """Tokens with events in ``order``, and the order that undoes it."""
    ptr = torch.tensor([0, *accumulate(lengths)], device="cpu")
    chosen = torch.tensor(order, device="cpu")
    counts = ptr.diff()[chosen]
    after = torch.cat([counts.new_zeros(1), counts.cumsum(0)])[:-1]
    shift = (ptr[chosen] - after).repeat_interleave(counts)
    forth = torch.arange(len(shift), device="cpu") + shift
    back = torch.empty_like(forth)
    back[forth] = torch.arange(len(forth), device="cpu")
    return forth, back


@lru_cache(maxsize=8)
def arrangement_of(
    queries: tuple[int, ...], keys: tuple[int, ...], bytes_per_token: int
) -> Arrangement:
    """Groups of a batch as it lies, or sorted by length where moving the tokens costs less.

    Parameters
    ----------
    queries, keys
        Tokens of each event.
    bytes_per_token
        Of queries, keys, values and outputs together.
    """
    groups = groups_of(queries, keys)
    saved = len(groups.events) - len(set(zip(queries, keys, strict=True)))
    if saved * _CALL <= sum(queries) * bytes_per_token * _BYTE:
        return Arrangement(groups, None, None)
    order = sorted(range(len(queries)), key=lambda i: (queries[i], keys[i]))
    q_order = _token_order(queries, order)
    k_order = q_order if keys == queries else _token_order(keys, order)
    sorted_groups = groups_of(tuple(queries[i] for i in order), tuple(keys[i] for i in order))
    return Arrangement(sorted_groups, q_order, k_order, tuple(order))
