"""FlashMask: for each key, the ranges of queries that may not see it (arXiv:2410.01359).

Four whole numbers per key instead of one bit per score: memory linear in the number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lgatr.attention.masks.base import Mask
from lgatr.attention.packing import Packing
from lgatr.attention.positions import Positions

_BLOCK = 128


@dataclass(frozen=True, eq=False)
class ColumnRanges(Mask):
    """Each key is hidden from two ranges of queries, a lower and an upper one.

    Parameters
    ----------
    lower_start, lower_end, upper_start, upper_end
        ``(U,)`` int32 with one entry for each key token of the batch; query positions inside the
        key's event. The lower range usually lies below the diagonal (queries after the key), the
        upper above it. Omitted ranges are empty; an omitted end is the end of the event.
    """

    lower_start: Tensor | None = None
    lower_end: Tensor | None = None
    upper_start: Tensor | None = None
    upper_end: Tensor | None = None
    feature = "column_ranges"

    def __post_init__(self) -> None:
        given = [t for t in self._columns if t is not None]
        if not given:
            raise ValueError("ColumnRanges needs at least one column of numbers")
        for tensor in given:
            if tensor.dim() != 1 or tensor.is_floating_point() or len(tensor) != len(given[0]):
                raise ValueError("columns are whole numbers of shape (keys,), equally many in each")
        if (self.lower_end is not None and self.lower_start is None) or (
            self.upper_end is not None and self.upper_start is None
        ):
            raise ValueError("a range with an end needs a start")

    @property
    def _columns(self) -> tuple[Tensor | None, ...]:
        return self.lower_start, self.lower_end, self.upper_start, self.upper_end

    @property
    def num_bytes(self) -> int:
        """Memory of the columns."""
        return sum(t.numel() * t.element_size() for t in self._columns if t is not None)

    @staticmethod
    def _outside(at: Positions, start: Tensor, end: Tensor | None) -> Tensor:
        outside = at.q < start[at.k_token]
        return outside if end is None else outside | (at.q >= end[at.k_token])

    def allowed(self, at: Positions) -> Tensor:
        """See :meth:`Mask.allowed`."""
        result = None
        pairs = ((self.lower_start, self.lower_end), (self.upper_start, self.upper_end))
        for start, end in pairs:
            if start is not None:
                outside = self._outside(at, start, end)
                result = outside if result is None else result & outside
        assert result is not None
        return result

    def check(self, events: int, queries: int, keys: int) -> None:
        """One column for each key."""
        columns = next(len(t) for t in self._columns if t is not None)
        if columns != keys:
            raise ValueError(f"ColumnRanges describes {columns} keys, but there are {keys}")

    @cached_property
    def _hidden_blocks(self) -> list[tuple[Tensor, Tensor]]:
        """For blocks of keys: queries ``[start, end)`` from which the whole block is hidden."""
        blocks = []
        big = torch.iinfo(torch.int32).max
        pairs = ((self.lower_start, self.lower_end), (self.upper_start, self.upper_end))
        for start, end in pairs:
            if start is not None:
                end = torch.full_like(start, big) if end is None else end
                pad = (0, -len(start) % _BLOCK)
                starts = torch.nn.functional.pad(start.cpu(), pad, value=-1).view(-1, _BLOCK)
                ends = torch.nn.functional.pad(end.cpu(), pad, value=big).view(-1, _BLOCK)
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
    def documents(
        cls, packing: Packing, causal: bool = False, device: torch.device | str | None = None
    ) -> ColumnRanges:
        """A block-diagonal mask over one long sequence of ``packing.num_tokens`` tokens.

        For models that see the batch as one event; a ``packing`` itself is faster.
        """
        ptr = packing.ptr if device is None else packing.ptr.to(device)
        lengths = ptr.diff().long()
        end = ptr[1:].repeat_interleave(lengths, output_size=packing.num_tokens)
        start = ptr[:-1].repeat_interleave(lengths, output_size=packing.num_tokens)
        if causal:
            start = torch.arange(packing.num_tokens, dtype=ptr.dtype, device=ptr.device)
        return cls(lower_start=end, upper_start=torch.zeros_like(start), upper_end=start)
