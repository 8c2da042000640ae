"""Key-value cache of growing sequences, in pages that sequences may share.

A decoder then computes each token once. Sequences own lists of pages (block tables); a fork shares
its pages with the original until one of them writes, so that many continuations of one beginning
keep and attend to one copy of it.

Legend: T new tokens, U places for tokens, H heads, K key-value heads, D head width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.pages import Pages, SequencePages
from lgatr.attention.pattern.key_storage import PagedKeys
from lgatr.attention.pattern.number_checks import check_whole_table, whole_number, whole_numbers
from lgatr.attention.pattern.shapes import check_formats
from lgatr.utils.described import described
from lgatr.utils.lengths import MAX_TOKENS


@dataclass
class Growth:
    """State of a sequence before it grew."""

    sequence: SequencePages
    pages: int
    last_page: int | None
    length: int
    undone: bool = False


class PagedCache:
    """Pages of keys and values for all layers of a network.

    Storage is made at the first write, in the shape, format and device of the keys.

    Parameters
    ----------
    pages
        How many pages there are.
    page_size
        Tokens in a page; kernels of xFormers want a multiple of 16.
    """

    def __init__(self, pages: int, page_size: int = 16) -> None:
        self.page_size = whole_number(page_size, "page_size", 1)
        self._pages = Pages(whole_number(pages, "pages", 1, MAX_TOKENS // self.page_size))
        self._sequences: dict[int, SequencePages] = {}
        self._next = 0
        self._storage: list[tuple[Tensor, Tensor]] = []
        self._journal: list[Growth] | None = None
        self._written = 0

    @property
    def free_pages(self) -> int:
        """Pages that no sequence uses."""
        return self._pages.free

    @property
    def layers(self) -> int:
        """Layers that have been written to."""
        return len(self._storage)

    def length(self, sequence: int) -> int:
        """Tokens of a sequence."""
        return self._sequence(sequence).length

    def _sequence(self, number: int) -> SequencePages:
        try:
            return self._sequences[number]
        except (KeyError, TypeError):
            raise ValueError(
                f"the cache has no sequence {described(number)}; cache.new() begins one"
            ) from None

    def _chosen(self, sequences: Any, counts: Any = None) -> list[SequencePages]:
        """The sequences with these numbers; ``ValueError`` unless there is one count for each."""
        if not isinstance(sequences, Iterable):
            raise ValueError(f"sequences are a list of numbers, not {described(sequences)}")
        chosen = [self._sequence(number) for number in sequences]
        if counts is not None and len(chosen) != len(counts):
            raise ValueError(f"{len(counts)} counts for {len(chosen)} sequences")
        return chosen

    def new(self) -> int:
        """Begin an empty sequence; returns its number."""
        self._next += 1
        self._sequences[self._next] = SequencePages()
        return self._next

    def fork(self, sequence: int) -> int:
        """Begin a sequence that continues another one, sharing its pages."""
        original = self._sequence(sequence)
        copy = self.new()
        self._sequences[copy] = SequencePages(list(original.pages), original.length)
        for page in original.pages:
            self._pages.share(page)
        return copy

    def free(self, sequence: int) -> None:
        """Remove a sequence and its references to pages."""
        for page in self._sequence(sequence).pages:
            self._pages.release(page)
        del self._sequences[sequence]

    def _needed(self, sequences: Sequence[SequencePages], counts: Sequence[int]) -> int:
        """Pages that ``counts`` more tokens take."""
        needed = 0
        copied: Counter[int] = Counter()
        for sequence, count in zip(sequences, counts, strict=True):
            needed += -(-(sequence.length + count) // self.page_size) - len(sequence.pages)
            if self._writes_to_shared(sequence, count):
                # The last user of a page writes to it in place.
                page = sequence.pages[-1]
                copied[page] += copied[page] < self._pages.users[page] - 1
        return needed + copied.total()

    def _writes_to_shared(self, sequence: SequencePages, count: int) -> bool:
        partial = sequence.length % self.page_size != 0 and count > 0
        return partial and self._pages.users[sequence.pages[-1]] > 1

    def extend(self, sequences: Sequence[int], counts: Sequence[int]) -> Tensor:
        """Make room for new tokens.

        Parameters
        ----------
        sequences
            Numbers of the sequences.
        counts
            New tokens of each.

        Returns
        -------
        Places of the new tokens in the storage, int64 ``(T,)``.

        Raises
        ------
        ValueError
            If there are too few free pages, a number is negative, or a sequence stands twice;
            nothing is changed then.
        """
        counts = whole_numbers(counts, "counts", 0)
        chosen = self._chosen(sequences, counts)
        if len(set(sequences)) < len(sequences):
            raise ValueError("a sequence stands twice in the batch; fork it")
        needed = self._needed(chosen, counts)
        if needed > self.free_pages:
            raise ValueError(
                f"the cache has {self.free_pages} free pages of {self.page_size} tokens and needs "
                f"{needed}; free sequences or make a larger one"
            )
        places: list[int] = []
        for sequence, count in zip(chosen, counts, strict=True):
            if self._journal is not None:
                pages = sequence.pages
                last = pages[-1] if pages else None
                self._journal.append(Growth(sequence, len(pages), last, sequence.length))
            if self._writes_to_shared(sequence, count):
                self._own_last_page(sequence)
            end = sequence.length + count
            while len(sequence.pages) * self.page_size < end:
                sequence.pages.append(self._pages.take())
            places += [self._place(sequence, i) for i in range(sequence.length, end)]
            sequence.length = end
        return torch.tensor(places, dtype=torch.int64, device="cpu")

    @contextmanager
    def undone_on_error(self) -> Iterator[list[Growth]]:
        """Undo the growth of sequences and the layers added inside, if anything raises.

        Yields
        ------
        Growth of sequences inside, for :meth:`undo`.
        """
        outer, layers = self._journal, len(self._storage)
        journal: list[Growth] = []
        self._journal = journal
        try:
            yield journal
        except BaseException:
            self.undo(journal, layers)
            raise
        finally:
            self._journal = outer
        if outer is not None:
            outer += journal

    def undo(self, journal: Sequence[Growth], layers: int) -> None:
        """Restore the state before ``journal``, with storage of ``layers`` layers."""
        # Backwards: a page may have been copied for one sequence after another.
        for growth in reversed(journal):
            if growth.undone:
                continue
            pages = growth.sequence.pages
            while len(pages) > growth.pages:
                self._pages.release(pages.pop())
            if growth.last_page is not None and pages[-1] != growth.last_page:
                self._pages.release(pages[-1])
                pages[-1] = growth.last_page
                self._pages.share(growth.last_page)
            growth.sequence.length, growth.undone = growth.length, True
        del self._storage[layers:]

    def shorten(self, sequences: Sequence[int], counts: Sequence[int]) -> None:
        """Forget the last ``counts`` tokens of these sequences.

        Raises
        ------
        ValueError
            If there is no such sequence, or it has fewer tokens; nothing is changed then.
        """
        counts = whole_numbers(counts, "counts", 0)
        chosen = self._chosen(sequences, counts)
        for sequence, count in zip(chosen, counts, strict=True):
            if count > sequence.length:
                raise ValueError(f"a sequence has {sequence.length} tokens, not {count}")
        for sequence, count in zip(chosen, counts, strict=True):
            sequence.length -= count
            while (len(sequence.pages) - 1) * self.page_size >= sequence.length and sequence.pages:
                self._pages.release(sequence.pages.pop())

    def _place(self, sequence: SequencePages, position: int) -> int:
        page, offset = divmod(position, self.page_size)
        return sequence.pages[page] * self.page_size + offset

    def _own_last_page(self, sequence: SequencePages) -> None:
        shared, own = sequence.pages[-1], self._pages.take()
        size = self.page_size
        for keys, values in self._storage:
            for storage in (keys, values):
                old = storage[shared * size : (shared + 1) * size]
                storage[own * size : (own + 1) * size] = old
        sequence.pages[-1] = own
        self._pages.release(shared)

    def write(self, layer: int, places: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values ``(T, K, D)`` of a layer; returns its storage ``(U, K, D)``.

        Raises
        ------
        ValueError
            If a place lies outside of the cache, sizes do not agree, or an earlier layer has not
            been written yet.
        """
        layer = whole_number(layer, "layer", 0)
        check_formats(k, k, v, exact=True)
        check_whole_table(places, "places", (1,))
        if not len(places) == len(k) == len(v):
            raise ValueError(f"{len(places)} places for {len(k)} keys and {len(v)} values")
        room = self._pages.count * self.page_size
        if places.device.type == "cpu" and bool((places >= room).any()):
            raise ValueError(f"places must be below {room}, the size of the cache")
        if layer > len(self._storage):
            raise ValueError(f"layer {layer} is written before layer {len(self._storage)}")
        if layer == len(self._storage):
            with torch.inference_mode(False):  # a later step may be outside of it
                k_room, v_room = (x.new_zeros(room, *x.shape[1:]) for x in (k, v))
            self._storage.append((k_room, v_room))
        self._written = layer + 1
        keys, values = self._storage[layer]
        for storage, new in ((keys, k), (values, v)):
            expected = storage.shape[1:], storage.dtype, storage.device
            if (new.shape[1:], new.dtype, new.device) != expected:
                raise ValueError(
                    f"the cache holds (tokens, *{tuple(storage.shape[1:])}) in {storage.dtype} on "
                    f"{storage.device}, not {tuple(new.shape)} in {new.dtype} on {new.device}"
                )
        keys[places], values[places] = k, v
        return keys, values

    def check_whole_step(self) -> None:
        """Raise ``ValueError`` if the last step wrote keys of fewer layers than the cache has."""
        if self._written < self.layers:
            raise ValueError(
                f"the cache has keys of {self.layers} layers, and a network of {self._written} "
                "cannot continue its sequences; use a cache for each network"
            )

    def shared_pages(self, sequences: Sequence[int]) -> list[int]:
        """Full pages with which all these sequences begin."""
        lists = [s.pages[: s.length // self.page_size] for s in self._chosen(sequences)]
        shared: list[int] = []
        for pages in zip(*lists, strict=False):
            if len(set(pages)) > 1:
                break
            shared.append(pages[0])
        return shared

    def keys(self, sequences: Sequence[int], skip_pages: int = 0) -> PagedKeys:
        """Where the keys of these sequences lie, leaving out their first pages."""
        skip_pages = whole_number(skip_pages, "skip_pages", 0)
        chosen = self._chosen(sequences)
        lengths = tuple(s.length - skip_pages * self.page_size for s in chosen)
        lists = [sequence.pages[skip_pages:] for sequence in chosen]
        widest = max(map(len, lists), default=0)
        table = [pages + [0] * (widest - len(pages)) for pages in lists]
        return PagedKeys(
            torch.tensor(table, dtype=torch.int32, device="cpu"), self.page_size, lengths
        )


@contextmanager
def undone_on_error(caches: Sequence[Any]) -> Iterator[None]:
    """Restore the caches given as keyword ``cache`` if anything raises inside."""
    paged = [
        given[0]
        for given in caches
        if isinstance(given, tuple) and given and isinstance(given[0], PagedCache)
    ]
    with ExitStack() as stack:
        for cache in paged:
            stack.enter_context(cache.undone_on_error())
        yield
        for cache in paged:
            cache.check_whole_step()
