"""Cut the scores of a batch into blocks that are computed one at a time.

A block is a contiguous range of query tokens and of key tokens: some neighbouring events of equal
lengths, or some queries of one long event with the keys that they may see.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.attention.pattern.masks import Mask
from lgatr.attention.pattern.positions import Positions, block_positions

MAX_SCORES = 2**24
"""Scores computed at a time; 64 MB in float32."""
_QUERIES_PER_BLOCK = 256


class Block(NamedTuple):
    """Scores ``(events, heads, q, k)`` of neighbouring events with equal lengths."""

    events: range
    q: range
    k: range
    lengths: tuple[int, int]
    first_tokens: tuple[int, int]
    originals: tuple[Tensor, Tensor, Tensor] | None = None
    """Of reordered events: their numbers and first tokens in the batch."""

    @property
    def whole(self) -> bool:
        """Whether the block has all queries and keys of its events."""
        return (len(self.q), len(self.k)) == self.lengths

    @property
    def q_tokens(self) -> range:
        """Query tokens of the batch."""
        start = self.first_tokens[0] + self.q.start
        return range(start, start + len(self.events) * len(self.q))

    @property
    def k_tokens(self) -> range:
        """Key tokens of the batch."""
        start = self.first_tokens[1] + self.k.start
        return range(start, start + len(self.events) * len(self.k))

    def positions(self, heads: int, device: torch.device) -> Positions:
        """Where the scores of the block stand."""
        at = block_positions(
            self.events, heads, self.q, self.k, self.lengths, self.first_tokens, device
        )
        if self.originals is None:
            return at
        event, q_start, k_start = (t.to(device).view(-1, 1, 1, 1) for t in self.originals)
        return at._replace(event=event, q_token=q_start + at.q, k_token=k_start + at.k)


def _queries_per_block(lengths: tuple[int, int], heads: int, mask: Mask | None, key: int) -> int:
    """Queries of an event in one block: all, unless fewer save memory or work."""
    n, m = lengths
    within_budget = max(MAX_SCORES // (m * heads), 1)
    if mask is None or n <= MAX_SHORT_EVENT:
        return min(n, within_budget)
    middle = range(n // 2, min(n // 2 + _QUERIES_PER_BLOCK, n))
    if len(mask.key_range(middle, lengths, key)) <= m // 2:
        return min(n, _QUERIES_PER_BLOCK)
    return min(n, within_budget)


# Longer events are cut by what their mask hides, which goes by tokens in their own order.
MAX_SHORT_EVENT = 2 * _QUERIES_PER_BLOCK


def sorted_blocks(
    queries: tuple[int, ...], keys: tuple[int, ...], order: tuple[int, ...], heads: int
) -> Iterator[Block]:
    """Blocks of short events in another order."""
    lengths = [tuple(table[i] for i in order) for table in (queries, keys)]
    starts = [torch.tensor([0, *accumulate(table)], device="cpu") for table in (queries, keys)]
    numbers = torch.tensor(order, device="cpu")
    for block in blocks_of(lengths[0], lengths[1], heads, None):
        chosen = numbers[block.events.start : block.events.stop]
        yield block._replace(originals=(chosen, starts[0][chosen], starts[1][chosen]))


def blocks_of(
    queries: tuple[int, ...], keys: tuple[int, ...], heads: int, mask: Mask | None
) -> Iterator[Block]:
    """Blocks that cover every query of events with these lengths, in order.

    Parameters
    ----------
    queries, keys
        Tokens of each event.
    heads
        Number of heads.
    mask
        Keys that it hides from all queries of a block are left out.
    """
    event = q_token = k_token = 0
    for lengths, group in groupby(zip(queries, keys, strict=True)):
        n, m = lengths
        count = sum(1 for _ in group)
        rows = _queries_per_block(lengths, heads, mask, k_token)
        at_once = max(MAX_SCORES // (n * m * heads), 1) if rows == n else 1
        for first in range(0, count, at_once):
            events = range(event + first, event + min(first + at_once, count))
            tokens = (q_token + first * n, k_token + first * m)
            if rows == n:
                yield Block(events, range(n), range(m), lengths, tokens)
                continue
            for start in range(0, n, rows):
                q = range(start, min(start + rows, n))
                k = range(m) if mask is None else mask.key_range(q, lengths, tokens[1])
                yield Block(events, q, k, lengths, tokens)
        event, q_token, k_token = event + count, q_token + count * n, k_token + count * m
