"""Attention inside packed events with masks and changed scores on CPUs, by kernels in C++.

A mask that is a band is given as the first and the last key of each query. Any other becomes a
table with one byte for each score, made once for all layers, and what it says of square tiles, so
that whole tiles are passed over or need no mask.

Legend: T query tokens, U key tokens, B events, H heads, D head width, P scores of all events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lgatr.attention.backends.native.blocks import Block, blocks_of
from lgatr.attention.backends.native.cpu import attention_tiles, offsets
from lgatr.attention.backends.native.score_terms import ScoreTerms
from lgatr.attention.pattern.masks import Band, Mask
from lgatr.attention.pattern.masks.base import checked_mask
from lgatr.attention.pattern.positions import Positions
from lgatr.ops._runtime.choice import CPP, Operation
from lgatr.ops._runtime.stage import Stage, Tensors, needs_plain_formula

MOST_ENTRIES = 1 << 28
"""Bytes of a table at most; patterns of more scores run block by block."""

SHORT = 128
"""Keys of an event up to which causal attention is faster with all scores computed."""

_MOST_NUMBERS = 1 << 26  # of keys, values and their gradients that a thread keeps
_TILE = 64  # queries and keys, as in masked_attention.cpp
_MANY_SCORES = 1 << 15  # of events of equal length side by side, for which a block is worth it
_KEPT_SCORES = 1 << 21

Lengths = tuple[int, ...]


class Table(NamedTuple):
    """A mask as the kernels take it.

    Parameters
    ----------
    entries
        ``(M, P)`` uint8 with M = 1, or H for a mask that depends on the head: 1 where a query sees
        a key; event after event, query after query.
    tiles
        ``(M, R)`` uint8: whether a query of a tile of 64 queries and 64 keys sees none of its keys
        (0), some (1), or all queries all (2); event after event, row after row.
    """

    entries: Tensor
    tiles: Tensor


@dataclass(frozen=True, eq=False)
class MaskedEvents(Stage):
    """Attention inside events; inputs q ``(T, H, D)``, k and v ``(U, H, D)``.

    Parameters
    ----------
    formula
        The plain formula.
    queries, keys
        Lengths of the events.
    mask
        Which keys are seen, or None for all.
    terms
        Changes of the scores.
    scale
        Of the scores; None means :math:`1 / \\sqrt{D}`.
    """

    formula: Callable[..., Tensor]
    queries: Lengths
    keys: Lengths
    mask: Mask | None
    terms: ScoreTerms
    scale: float | None
    operation = Operation(__package__, "masked_events", CPP, otherwise="attention")
    needs_outputs = True
    _tables: dict[int, Table | None] = field(default_factory=dict)

    def accepts(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Whether the kernels are there, and take tensors of these shapes and formats."""
        return (
            q.shape[1:] == k.shape[1:] == v.shape[1:]
            and q.shape[2] > 0
            and q.dtype == k.dtype == v.dtype
            and 5 * max(self.keys, default=0) * (q.shape[2] + 15) <= _MOST_NUMBERS
            and not needs_plain_formula()
            and self.passes(q) is not None
            and (self._band is not None or self.mask is None or self._table(q.shape[1]) is not None)
        )

    @cached_property
    def _band(self) -> Band | None:
        return None if self.mask is None else self.mask.band()

    @cached_property
    def _offsets(self) -> tuple[Tensor, Tensor]:
        queries = offsets(self.queries)
        return queries, queries if self.keys == self.queries else offsets(self.keys)

    @cached_property
    def _seen(self) -> tuple[Tensor | None, Tensor | None]:
        """The first key that each query sees, and the end of them; of a band."""
        band = self._band
        if band is None:
            return None, None
        queries, keys = (torch.tensor(x, device="cpu") for x in (self.queries, self.keys))
        total = sum(self.queries)
        place = torch.arange(total, device="cpu") - _each(self._offsets[0][:-1], queries, total)
        last = _each(keys, queries, total)
        if band.bottom_right:
            place = place + _each(keys - queries, queries, total)
        # Windows may be wider than whole numbers are.
        first = torch.zeros_like(place) if band.left is None else place - min(band.left, 1 << 40)
        end = last if band.right is None else place + (min(band.right, 1 << 40) + 1)
        return first.clamp(min=0), torch.minimum(end, last).clamp(min=0)

    def _table(self, heads: int) -> Table | None:
        """The table of the mask, or None if it would be too large."""
        if heads not in self._tables:
            assert self.mask is not None
            with torch.inference_mode(False), torch.no_grad():
                self._tables[heads] = table_of(self.mask, self.queries, self.keys, heads)
        return self._tables[heads]

    @property
    def read_again(self) -> tuple[Tensor, ...]:
        """Tensors of the terms, which may not change before the backward pass."""
        return self.terms.tensors

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return (self.formula(*inputs),)

    def problem(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Any, ...]:
        """What the kernels are told besides tensors of queries, keys and values."""
        tokens, heads, width = q.shape
        table = tiles = None
        masks = entries = squares = 0
        if self.mask is not None and self._band is None:
            found = self._table(heads)
            assert found is not None
            table, tiles = found
            (masks, entries), squares = table.shape, tiles.shape[1]
        slopes = self.terms.slopes
        if slopes is not None:
            slopes = slopes.to(q).expand(heads).contiguous()
        scale = 1.0 / math.sqrt(width) if self.scale is None else float(self.scale)
        return (
            *self._offsets, *self._seen, table, tiles, slopes, tokens, len(k), len(self.queries),
            heads, width, masks, entries, squares, scale, self.terms.cap or 0.0,
        )  # fmt: skip


def _each(values: Tensor, counts: Tensor, total: int) -> Tensor:
    """The value of each token's event."""
    return values.repeat_interleave(counts, output_size=total)


@lru_cache(maxsize=2)
def _flat_positions(queries: Lengths, keys: Lengths) -> Positions:
    """All scores of all events in one row: ``(1, 1, 1, P)``."""
    with torch.inference_mode(False):
        n, m = (torch.tensor(x, device="cpu") for x in (queries, keys))
        counts = n * m
        total = int(counts.sum())

        def each(values: Tensor) -> Tensor:
            return _each(values, counts, total).view(1, 1, 1, total)

        place = torch.arange(total, device="cpu") - each(counts.cumsum(0) - counts)
        width = each(m)
        q = place // width
        k = place - q * width
        return Positions(
            event=each(torch.arange(len(n), device="cpu")),
            head=torch.zeros(1, 1, 1, 1, dtype=torch.int64, device="cpu"),
            q=q,
            k=k,
            q_length=each(n),
            k_length=width,
            q_token=each(n.cumsum(0) - n) + q,
            k_token=each(m.cumsum(0) - m) + k,
        )


def table_of(mask: Mask, queries: Lengths, keys: Lengths, heads: int) -> Table | None:
    """The table of a mask over events of these lengths, or None if it would be too large."""
    entries = sum(n * m for n, m in zip(queries, keys, strict=True))
    if entries > MOST_ENTRIES:
        return None
    groups = sum(1 for _ in groupby(zip(queries, keys, strict=True)))
    name, found = type(mask).__name__, None
    if entries <= min(_MANY_SCORES * groups, _KEPT_SCORES):
        at = _flat_positions(queries, keys)
        at = at._replace(head=torch.arange(heads, device="cpu").view(1, heads, 1, 1))
        allowed = _with_heads(checked_mask(mask.allowed(at), at, name))
        found = allowed.expand(1, -1, 1, entries).reshape(-1, entries).to(torch.uint8)
    else:
        for block, start in _blocks(queries, keys, heads):
            at = block.positions(heads, torch.device("cpu"))
            allowed = _with_heads(checked_mask(mask.allowed(at), at, name))
            masks = allowed.shape[1]
            if found is None:
                if masks * entries > MOST_ENTRIES:
                    return None
                found = torch.empty(masks, entries, dtype=torch.uint8, device="cpu")
            shape = (len(block.events), masks, len(block.q), len(block.k))
            size = len(block.events) * len(block.q) * len(block.k)
            places = found[:, start : start + size].view(masks, shape[0], *shape[2:])
            places.copy_(allowed.expand(shape).transpose(0, 1))
    if found is None:  # no events
        found = torch.empty(1, 0, dtype=torch.uint8, device="cpu")
    if found.shape[0] * entries > MOST_ENTRIES:
        return None
    return Table(found, _tiles(found, queries, keys))


def _with_heads(allowed: Tensor) -> Tensor:
    """With four dimensions."""
    return allowed.view((1,) * (4 - allowed.dim()) + tuple(allowed.shape))


def _blocks(queries: Lengths, keys: Lengths, heads: int) -> list[tuple[Block, int]]:
    """Blocks of all scores, and where the entries of each begin."""
    starts = [0, *accumulate(n * m for n, m in zip(queries, keys, strict=True))]
    return [
        (block, starts[block.events.start] + block.q.start * block.lengths[1])
        for block in blocks_of(queries, keys, heads, None)
    ]


def _tiles(entries: Tensor, queries: Lengths, keys: Lengths) -> Tensor:
    squares = sum(-(-n // _TILE) * -(-m // _TILE) for n, m in zip(queries, keys, strict=True))
    tiles = entries.new_empty(len(entries), squares)
    sizes = sum(queries), sum(keys), len(queries), *entries.shape, squares
    # The format of the numbers does not matter here.
    attention_tiles(
        torch.empty(0, device="cpu"), entries, tiles, offsets(queries), offsets(keys), *sizes
    )
    return tiles
