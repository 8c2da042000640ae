"""FlashMask: for each key, the ranges of queries that may not see it (arXiv:2410.01359).

Four whole numbers per key instead of one bit per score: memory linear in the number of tokens.

Legend: U key tokens of the batch, H heads, n tokens of one event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lgatr.attention.pattern.masks.base import Mask
from lgatr.attention.pattern.masks.column_patterns import ColumnPatterns
from lgatr.attention.pattern.number_checks import check_whole_table
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.shapes import Layout

_BLOCK = 128
_NAMES = ("lower_start", "lower_end", "upper_start", "upper_end")
_NO_END = torch.iinfo(torch.int32).max


@dataclass(frozen=True, eq=False)
class ColumnRanges(ColumnPatterns, Mask):
    """Each key is hidden from two ranges of queries, a lower and an upper one.

    The masks of the FlashMask paper have constructors, of one event each; :meth:`join` makes that
    of a packed batch from them.

    Parameters
    ----------
    lower_start, lower_end, upper_start, upper_end
        ``(U,)`` whole numbers with one entry for each key token of the batch, or ``(H, U)``; query
        positions inside the key's event. The lower range usually lies below the diagonal (queries
        after the key), the upper above it. Omitted ranges, and those that end before they start,
        are empty; an omitted end is the end of the event.
    """

    lower_start: Tensor | None = None
    lower_end: Tensor | None = None
    upper_start: Tensor | None = None
    upper_end: Tensor | None = None
    feature = "column_ranges"

    def __post_init__(self) -> None:
        given = {n: t for n, t in zip(_NAMES, self._columns, strict=True) if t is not None}
        if not given:
            raise ValueError("ColumnRanges needs at least one column of numbers")
        for name, tensor in given.items():
            check_whole_table(tensor, f"{name} of ColumnRanges", (1, 2))
        shapes = {tuple(t.shape) for t in given.values()}
        if len(shapes) > 1:
            raise ValueError(
                f"columns have one shape, (keys,) or (heads, keys), not {sorted(shapes)}"
            )
        for side in ("lower", "upper"):
            if f"{side}_end" in given and f"{side}_start" not in given:
                raise ValueError(f"a range with an end needs a start: {side}_start")

    @property
    def _columns(self) -> tuple[Tensor | None, ...]:
        return self.lower_start, self.lower_end, self.upper_start, self.upper_end

    @property
    def _ranges(self) -> list[tuple[Tensor, Tensor | None]]:
        """Starts and ends of the ranges that are given."""
        pairs = ((self.lower_start, self.lower_end), (self.upper_start, self.upper_end))
        return [(start, end) for start, end in pairs if start is not None]

    @property
    def num_bytes(self) -> int:
        """Memory of the columns."""
        return sum(t.numel() * t.element_size() for t in self._columns if t is not None)

    @staticmethod
    def _entry(column: Tensor, at: Positions) -> Tensor:
        if column.dim() == 1:
            return column[at.k_token]
        return column[at.head if column.shape[0] > 1 else at.head * 0, at.k_token]

    def allowed(self, at: Positions) -> Tensor:
        result = None
        for start, end in self._ranges:
            outside = at.q < self._entry(start, at)
            if end is not None:
                outside = outside | (at.q >= self._entry(end, at))
            result = outside if result is None else result & outside
        assert result is not None
        return result

    def check(self, layout: Layout) -> None:
        """One column for each key, for all heads or each."""
        shape, keys = self._ranges[0][0].shape, sum(layout.keys)
        if shape[-1] != keys:
            raise ValueError(f"ColumnRanges describes {shape[-1]} keys, but there are {keys}")
        if len(shape) == 2 and shape[0] not in (1, layout.heads):
            raise ValueError(
                f"ColumnRanges describes {shape[0]} heads, but there are {layout.heads}"
            )

    @cached_property
    def _hidden_blocks(self) -> list[tuple[Tensor, Tensor]]:
        """For blocks of keys: queries ``[start, end)`` from which all heads hide all of a block."""
        blocks = []
        for start, end in self._ranges:
            end = torch.full_like(start, _NO_END) if end is None else end
            # Over heads, the latest start and the earliest end.
            start, end = (x.cpu().view(-1, x.shape[-1]) for x in (start, end))
            start, end = start.amax(0), end.amin(0)
            pad = (0, -len(start) % _BLOCK)
            starts = torch.nn.functional.pad(start, pad, value=-1).view(-1, _BLOCK)
            ends = torch.nn.functional.pad(end, pad, value=_NO_END).view(-1, _BLOCK)
            blocks.append((starts.amax(1), ends.amin(1)))
        return blocks

    def key_range(self, q: range, lengths: tuple[int, int], first_key: int) -> range:
        """Leave out blocks of keys at both ends that are hidden from all of ``q``."""
        last = first_key + lengths[1]
        lo, hi = first_key // _BLOCK, -(-last // _BLOCK)
        visible = torch.ones(hi - lo, dtype=torch.bool)
        for start, end in self._hidden_blocks:
            visible &= ~((start[lo:hi] <= q.start) & (end[lo:hi] >= q.stop))
        places = visible.nonzero().flatten().tolist()
        if not places:
            return range(0)
        begin, stop = (lo + places[0]) * _BLOCK, (lo + places[-1] + 1) * _BLOCK
        return range(max(begin, first_key) - first_key, min(stop, last) - first_key)

    @classmethod
    def join(cls, events: Sequence[ColumnRanges]) -> ColumnRanges:
        """The mask of a packed batch from those of its events.

        Parameters
        ----------
        events
            One mask for each event, each with as many columns as the event has keys.
        """
        if not events or not all(isinstance(event, ColumnRanges) for event in events):
            raise ValueError("join takes a list of ColumnRanges, one for each event")
        heads = {len(event._ranges[0][0]) for event in events if event._ranges[0][0].dim() == 2}
        if len(heads - {1}) > 1:
            raise ValueError(f"events with columns for {sorted(heads)} heads cannot be joined")
        rows = (max(heads),) if heads else ()
        joined: dict[str, Tensor] = {}
        for name in _NAMES:
            if any(getattr(event, name) is not None for event in events):
                parts = [event._filled(name) for event in events]
                joined[name] = torch.cat([p.expand(*rows, p.shape[-1]) for p in parts], dim=-1)
        return cls(**joined)

    def _filled(self, name: str) -> Tensor:
        """A column, or what stands for it where it is omitted."""
        column: Tensor | None = getattr(self, name)
        if column is not None:
            return column.long()
        like = self._ranges[0][0].long()
        ends = name.endswith("end") and getattr(self, name.replace("end", "start")) is not None
        return torch.full_like(like, _NO_END if ends or name.endswith("start") else 0)

    @classmethod
    def from_startend_row_indices(cls, indices: Tensor, causal: bool) -> ColumnRanges:
        """FlashMask's own argument, for dense batches.

        Parameters
        ----------
        indices
            ``(B, H or 1, keys, 1, 2 or 4)``: where the lower range starts; and ends, if ``causal``;
            else (of two) where the upper range, from the first query on, ends; or (of four) start
            and end of the lower and of the upper range. All events have the same heads.
        causal
            Whether keys are hidden from earlier queries too.
        """
        if indices.dim() != 4 or indices.shape[3] not in ((1, 2) if causal else (1, 2, 4)):
            raise ValueError(
                "startend_row_indices are (events, heads, keys, 1, 2 or 4; 4 without causal), not "
                f"{tuple(indices.shape)}"
            )
        events, _, keys, count = indices.shape
        columns = [c.transpose(0, 1).flatten(1) for c in indices.long().unbind(-1)]
        zero = torch.zeros_like(columns[0])
        if causal:
            diagonal = torch.arange(keys, device=indices.device).repeat(events)
            above = diagonal.expand_as(zero).contiguous()
            return cls(columns[0], None if count == 1 else columns[1], zero, above)
        if count == 1:
            return cls(columns[0])
        return cls(columns[0], None, zero, columns[1]) if count == 2 else cls(*columns)

    @classmethod
    def documents(
        cls,
        packing: Packing | Sequence[int],
        causal: bool = False,
        device: torch.device | str | None = None,
    ) -> ColumnRanges:
        """A block-diagonal mask over one long sequence, of documents with these lengths.

        For models that see the batch as one event; a ``packing`` itself is faster.
        """
        packing = packing if isinstance(packing, Packing) else Packing.from_lengths(packing)
        ptr = packing.ptr if device is None else packing.ptr.to(device)
        lengths = ptr.diff().long()
        end = ptr[1:].repeat_interleave(lengths, output_size=packing.num_tokens)
        start = ptr[:-1].repeat_interleave(lengths, output_size=packing.num_tokens)
        if causal:
            start = torch.arange(packing.num_tokens, dtype=ptr.dtype, device=ptr.device)
        return cls(lower_start=end, upper_start=torch.zeros_like(start), upper_end=start)
