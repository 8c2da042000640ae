"""Longformer's global tokens: some see, and are seen by, their whole event (arXiv:2004.05150)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.pattern.masks.base import Mask
from lgatr.attention.pattern.number_checks import whole_number, whole_numbers
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.shapes import Layout
from lgatr.utils.inputs import check_dense, check_values

# Entries of a table of positions; one byte each.
_LARGEST = 2**28


def _table(positions: list[tuple[int, ...]]) -> Tensor:
    """Which positions are global: ``(1 or B, size)``; the last column stands for all others."""
    last = max((max(row) for row in positions if row), default=0)
    # A power of two: compiled programs depend on it.
    size = 1 << (last + 1).bit_length()
    if size * len(positions) > _LARGEST:
        raise ValueError(
            f"GlobalTokens keeps a table of positions, which for {len(positions)} events and "
            f"position {last} would be too large; mark the tokens by a boolean tensor"
        )
    table = torch.zeros(len(positions), size, dtype=torch.bool)
    for row, chosen in zip(table, positions, strict=True):
        row[list(chosen)] = True
    return table


@dataclass(frozen=True, eq=False)
class GlobalTokens(Mask):
    """Global tokens see, and are seen by, all of their event.

    ``SlidingWindow(w) | GlobalTokens(n)`` is the pattern of Longformer.

    Parameters
    ----------
    tokens
        A number: the first so many tokens of each event. A list (or tensor) of whole numbers: these
        positions in each event; shorter events have fewer global tokens. A list of lists (or of
        tensors): positions for each event of the batch. A boolean tensor with an entry for each
        token of the batch: True for global ones, in self-attention.
    """

    tokens: int | Sequence[int] | Sequence[Sequence[int]] | Sequence[Tensor] | Tensor
    table: Tensor | None = field(init=False, default=None, repr=False)
    """By position ``(1 or B, size)``, or by token ``(T,)``; None for the first so many."""
    ends: tuple[int, ...] = field(init=False, default=(), repr=False)
    """For each event with positions of its own, the smallest length that has them all."""
    feature = "global_tokens"

    def __post_init__(self) -> None:
        tokens: Any = self.tokens
        if isinstance(tokens, Tensor) and tokens.dtype == torch.bool:
            check_dense("marks of GlobalTokens", tokens, "(tokens,)")
            check_values("marks of GlobalTokens", tokens)
            self._set(tokens=0, table=tokens.flatten())
            return
        if isinstance(tokens, Tensor):
            check_dense("positions of global tokens", tokens, "(n,) or (events, n)")
            check_values("positions of global tokens", tokens)
            if tokens.is_floating_point() or tokens.is_complex() or tokens.dim() > 2:
                raise ValueError(
                    "positions of global tokens are whole numbers (n,) or (events, n), not "
                    f"{str(tokens.dtype).removeprefix('torch.')} of shape {tuple(tokens.shape)}"
                )
        tokens = tokens.tolist() if hasattr(tokens, "tolist") else tokens
        if not isinstance(tokens, Sequence) or isinstance(tokens, str):
            self._set(tokens=whole_number(tokens, "the number of global tokens", 0))
            return
        name = "positions of global tokens"
        nested = [isinstance(t, (Sequence, Tensor)) and not _is_scalar(t) for t in tokens]
        if tokens and all(nested):
            rows = [whole_numbers(row, name, 0) for row in tokens]
            ends = tuple(max(row, default=-1) + 1 for row in rows)
            self._set(tokens=tuple(rows), table=_table(rows), ends=ends)
        else:
            row = whole_numbers(tokens, name, 0)
            self._set(tokens=row, table=_table([row]))

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _is_global(self, event: Tensor, position: Tensor, token: Tensor) -> Tensor:
        if self.table is None:
            count: Any = self.tokens
            return position < count
        if self.table.dim() == 1:
            return self.table[token]
        place = position.clamp(max=self.table.shape[1] - 1)
        return self.table[event if self.table.shape[0] > 1 else event * 0, place]

    def allowed(self, at: Positions) -> Tensor:
        query = self._is_global(at.event, at.q, at.q_token)
        return query | self._is_global(at.event, at.k, at.k_token)

    def check(self, layout: Layout) -> None:
        """Positions of events lie inside of them; marks are for as many tokens."""
        if self.table is not None and self.table.dim() == 1:
            if list(layout.queries) != list(layout.keys) or sum(layout.keys) != len(self.table):
                raise ValueError(
                    f"GlobalTokens marks {len(self.table)} tokens in self-attention, but there are "
                    f"{sum(layout.queries)} queries and {sum(layout.keys)} keys"
                )
        if not self.ends:
            return
        if len(self.ends) != len(layout.queries):
            raise ValueError(
                f"GlobalTokens has positions for {len(self.ends)} events, but there are "
                f"{len(layout.queries)}"
            )
        for i, sizes in enumerate(zip(self.ends, layout.queries, layout.keys, strict=True)):
            if sizes[0] > max(sizes[1:]):
                raise ValueError(
                    f"event {i} has {max(sizes[1:])} tokens, and none at the position "
                    f"{sizes[0] - 1} of GlobalTokens"
                )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, bytes)) or (isinstance(value, Tensor) and value.dim() == 0)
