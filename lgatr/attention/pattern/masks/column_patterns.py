"""The masks that the FlashMask paper lists (arXiv:2410.01359, figure 1), column by column.

Each describes self-attention in one event of n tokens: for each key j, from which queries i it is
hidden. Block-diagonal ones are :meth:`ColumnRanges.documents`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch import Tensor

from lgatr.attention.pattern.number_checks import whole_number, whole_numbers

Device = torch.device | str
C = TypeVar("C", bound="ColumnPatterns")


def _spread(values: Sequence[int], lengths: Sequence[int], device: Device) -> Tensor:
    """Each value as often as its length says, ``(sum(lengths),)``."""
    counts = torch.tensor(lengths, device=device)
    return torch.tensor(values, device=device).repeat_interleave(counts)


def _lengths(values: Iterable[int] | Tensor, name: str) -> tuple[int, ...]:
    lengths = whole_numbers(values, name, 1)
    if not lengths:
        raise ValueError(f"{name} has at least one entry")
    return lengths


class ColumnPatterns:
    """Named constructors of :class:`~lgatr.attention.ColumnRanges`."""

    @classmethod
    def _of(
        cls: type[C], lower: Tensor | None, above: Tensor | None, first: Tensor | None = None
    ) -> C:
        """Hidden from queries ``lower`` on, and from ``first`` (default 0) up to ``above``."""
        make: Any = cls
        if above is None:
            mask: C = make(lower)
            return mask
        mask = make(lower, None, torch.zeros_like(above) if first is None else first, above)
        return mask

    @classmethod
    def causal(cls: type[C], n: int, device: Device = "cpu") -> C:
        """Key j is seen by queries from j on."""
        return cls._of(None, torch.arange(whole_number(n, "n", 1), device=device))

    @classmethod
    def sliding_window(
        cls: type[C], n: int, left: int, right: int = 0, device: Device = "cpu"
    ) -> C:
        """A query sees ``left`` earlier and ``right`` later tokens, and itself."""
        key = torch.arange(whole_number(n, "n", 1), device=device)
        left, right = whole_number(left, "left", 0), whole_number(right, "right", 0)
        return cls._of(key + left + 1, (key - right).clamp(min=0))

    @classmethod
    def share_question(
        cls: type[C], documents: Sequence[Sequence[int]], device: Device = "cpu"
    ) -> C:
        """Answers see their document's question and themselves, not each other; all is causal.

        Parameters
        ----------
        documents
            For each document the length of its question, then those of its answers.
        device
            Where the columns are made.
        """
        lengths: list[int] = []
        ends: list[int] = []
        for document in documents:
            parts = _lengths(document, "documents")
            stops = list(accumulate(parts, initial=sum(lengths)))[1:]
            lengths += parts
            # The question is seen up to the end of the document, an answer up to its own.
            ends += [stops[-1], *stops[1:]]
        if not lengths:
            raise ValueError("documents has at least one entry")
        key = torch.arange(sum(lengths), device=device)
        return cls._of(_spread(ends, lengths, device), key)

    @classmethod
    def global_sliding_window(
        cls: type[C],
        n: int,
        tokens: int,
        left: int,
        right: int | None = None,
        device: Device = "cpu",
    ) -> C:
        """The first tokens see, and are seen by, all others; those see a window besides.

        Parameters
        ----------
        n
            Tokens of the event.
        tokens
            How many of them are global.
        left, right
            Reach of the window; ``right`` is ``left`` if not given.
        device
            Where the columns are made.
        """
        key = torch.arange(whole_number(n, "n", 1), device=device)
        tokens, left = whole_number(tokens, "tokens", 0), whole_number(left, "left", 0)
        right = left if right is None else whole_number(right, "right", 0)
        seen = key < tokens
        # Above the diagonal, keys are hidden from queries after the global ones.
        lower = (key + left + 1).clamp(min=tokens).masked_fill(seen, n)
        above = (key - right).clamp(min=0).masked_fill(seen, 0)
        return cls._of(lower, above, torch.full_like(key, tokens))

    @classmethod
    def causal_blockwise(cls: type[C], blocks: Sequence[int], device: Device = "cpu") -> C:
        """Blocks are causal and see themselves alone, but the last one sees all.

        Parameters
        ----------
        blocks
            Their lengths, such as those of demonstrations and of the test example in the end.
        device
            Where the columns are made.
        """
        lengths = _lengths(blocks, "blocks")
        stops = list(accumulate(lengths))
        last = stops[-1] - lengths[-1]
        start = _spread([*stops[:-1], stops[-1]], lengths, device)
        end = _spread([last] * (len(stops) - 1) + [stops[-1]], lengths, device)
        make: Any = cls
        key = torch.arange(stops[-1], device=device)
        mask: C = make(start, end, torch.zeros_like(key), key)
        return mask

    @classmethod
    def prefix_lm(cls: type[C], n: int, prefix: int, device: Device = "cpu") -> C:
        """All see the first ``prefix`` tokens; the rest is causal."""
        return cls.prefix_lm_documents([n], [prefix], device)

    @classmethod
    def prefix_lm_documents(
        cls: type[C], lengths: Sequence[int], prefixes: Sequence[int], device: Device = "cpu"
    ) -> C:
        """Documents end to end; in each, all see the prefix and the rest is causal."""
        lengths = _lengths(lengths, "lengths")
        prefixes = whole_numbers(prefixes, "prefixes", 0)
        if len(prefixes) != len(lengths):
            raise ValueError(f"{len(prefixes)} prefixes for {len(lengths)} documents")
        stops = list(accumulate(lengths, initial=0))
        key = torch.arange(stops[-1], device=device)
        start = _spread(stops[:-1], lengths, device)
        in_prefix = key - start < _spread(prefixes, lengths, device)
        above = torch.where(in_prefix, start, key)
        return cls._of(_spread(stops[1:], lengths, device), above)

    @classmethod
    def qk_sparse(
        cls: type[C], n: int, dropped: Iterable[int] | Tensor, device: Device = "cpu"
    ) -> C:
        """Causal, with the keys at the positions ``dropped`` seen by nobody."""
        key = torch.arange(whole_number(n, "n", 1), device=device)
        positions = whole_numbers(dropped, "dropped", 0)
        if max(positions, default=0) >= n:
            raise ValueError(f"no token of {n} is at the dropped position {max(positions)}")
        lower = torch.full_like(key, n)
        lower[list(positions)] = 0
        return cls._of(lower, key)

    @classmethod
    def hash_sparse(cls: type[C], buckets: Sequence[int] | Tensor, device: Device = "cpu") -> C:
        """Tokens see earlier ones of the same bucket; tokens are sorted by bucket.

        Parameters
        ----------
        buckets
            Number of each token's bucket, not falling.
        device
            Where the columns are made.
        """
        numbers = whole_numbers(buckets, "buckets", 0)
        if not numbers or any(b < a for a, b in zip(numbers, numbers[1:], strict=False)):
            raise ValueError("buckets is a list of numbers that do not fall; sort the tokens by it")
        stops = {bucket: i + 1 for i, bucket in enumerate(numbers)}
        key = torch.arange(len(numbers), device=device)
        return cls._of(torch.tensor([stops[b] for b in numbers], device=device), key)

    @classmethod
    def random_eviction(cls: type[C], evicted: Sequence[int] | Tensor, device: Device = "cpu") -> C:
        """Causal, with key j forgotten from query ``evicted[j]`` on, as a full cache forgets.

        Parameters
        ----------
        evicted
            One number for each token; at least n for those that stay.
        device
            Where the columns are made.
        """
        numbers = _lengths(evicted, "evicted")
        key = torch.arange(len(numbers), device=device)
        return cls._of(torch.tensor(numbers, device=device), key)
