"""Keys and values kept while a sequence grows, in pages that sequences may share.

A decoder then computes each token once. Sequences own lists of pages (block tables); a fork shares
its pages with the original until one of them writes, so that many continuations of one beginning
keep and attend to one copy of it.

Legend: T new tokens, U places for tokens, H heads, K key-value heads, D head width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.continued import ContinuedScore, continued_mask
from lgatr.attention.dispatch import Attention, prepare_attention
from lgatr.attention.keys import PagedKeys
from lgatr.attention.masks import Causal
from lgatr.attention.packing import Packing
from lgatr.attention.partial import merge_attentions
from lgatr.attention.spec import AttentionSpec

_LIMITS = ("max_seqlen_q", "max_seqlen_k")
_OPTIONS = ("backend", "strict", "compute_dtype", "head_width", *_LIMITS)


@dataclass
class _Sequence:
    pages: list[int] = field(default_factory=list)
    length: int = 0


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
        if pages < 1 or page_size < 1:
            raise ValueError(f"a cache needs pages and places in them, not {pages} x {page_size}")
        self.page_size = page_size
        self._free = list(range(pages - 1, -1, -1))
        self._users = [0] * pages
        self._sequences: dict[int, _Sequence] = {}
        self._next = 0
        self._storage: list[tuple[Tensor, Tensor]] = []

    @property
    def free_pages(self) -> int:
        """Pages that no sequence uses."""
        return len(self._free)

    def length(self, sequence: int) -> int:
        """Tokens of a sequence."""
        return self._sequence(sequence).length

    def _sequence(self, number: int) -> _Sequence:
        if number not in self._sequences:
            raise ValueError(f"the cache has no sequence {number}; cache.new() begins one")
        return self._sequences[number]

    def new(self) -> int:
        """Begin an empty sequence; returns its number."""
        self._next += 1
        self._sequences[self._next] = _Sequence()
        return self._next

    def fork(self, sequence: int) -> int:
        """Begin a sequence that continues another one, sharing its pages."""
        original = self._sequence(sequence)
        copy = self.new()
        self._sequences[copy] = _Sequence(list(original.pages), original.length)
        for page in original.pages:
            self._users[page] += 1
        return copy

    def free(self, sequence: int) -> None:
        """Forget a sequence; pages that nobody else uses become free."""
        for page in self._sequence(sequence).pages:
            self._release(page)
        del self._sequences[sequence]

    def _release(self, page: int) -> None:
        self._users[page] -= 1
        if not self._users[page]:
            self._free.append(page)

    def _take(self) -> int:
        page = self._free.pop()
        self._users[page] = 1
        return page

    def _needed(self, sequences: Sequence[_Sequence], counts: Sequence[int]) -> int:
        """Pages that ``counts`` more tokens take."""
        needed = 0
        copied: Counter[int] = Counter()
        for sequence, count in zip(sequences, counts, strict=True):
            needed += -(-(sequence.length + count) // self.page_size) - len(sequence.pages)
            if self._writes_to_shared(sequence, count):
                # Whoever is left alone with a page writes to it, and needs no copy.
                page = sequence.pages[-1]
                copied[page] += copied[page] < self._users[page] - 1
        return needed + copied.total()

    def _writes_to_shared(self, sequence: _Sequence, count: int) -> bool:
        partial = sequence.length % self.page_size != 0 and count > 0
        return partial and self._users[sequence.pages[-1]] > 1

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
        chosen = [self._sequence(s) for s in sequences]
        if len(set(sequences)) < len(sequences) or min(counts, default=0) < 0:
            raise ValueError(
                f"a cache makes room for 0 or more tokens of different sequences, not for "
                f"{list(counts)} of {list(sequences)}"
            )
        needed = self._needed(chosen, counts)
        if needed > len(self._free):
            raise ValueError(
                f"the cache has {len(self._free)} free pages of {self.page_size} tokens and needs "
                f"{needed}; free sequences or make a larger one"
            )
        places: list[int] = []
        for sequence, count in zip(chosen, counts, strict=True):
            if self._writes_to_shared(sequence, count):
                self._own_last_page(sequence)
            end = sequence.length + count
            while len(sequence.pages) * self.page_size < end:
                sequence.pages.append(self._take())
            places += [self._place(sequence, i) for i in range(sequence.length, end)]
            sequence.length = end
        return torch.tensor(places)

    def shorten(self, sequences: Sequence[int], counts: Sequence[int]) -> None:
        """Forget the last ``counts`` tokens of these sequences."""
        for number, count in zip(sequences, counts, strict=True):
            sequence = self._sequence(number)
            if not 0 <= count <= sequence.length:
                raise ValueError(f"sequence {number} has {sequence.length} tokens, not {count}")
            sequence.length -= count
            while (len(sequence.pages) - 1) * self.page_size >= sequence.length and sequence.pages:
                self._release(sequence.pages.pop())

    def _place(self, sequence: _Sequence, position: int) -> int:
        page, offset = divmod(position, self.page_size)
        return sequence.pages[page] * self.page_size + offset

    def _own_last_page(self, sequence: _Sequence) -> None:
        shared, own = sequence.pages[-1], self._take()
        size = self.page_size
        for keys, values in self._storage:
            for storage in (keys, values):
                old = storage[shared * size : (shared + 1) * size]
                storage[own * size : (own + 1) * size] = old
        sequence.pages[-1] = own
        self._release(shared)

    def write(self, layer: int, places: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values ``(T, K, D)`` of a layer; returns its storage ``(U, K, D)``."""
        if layer > len(self._storage):
            raise ValueError(f"layer {layer} is written before layer {len(self._storage)}")
        if layer == len(self._storage):
            places_in_all = len(self._users) * self.page_size
            self._storage.append(
                (k.new_zeros(places_in_all, *k.shape[1:]), v.new_zeros(places_in_all, *v.shape[1:]))
            )
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

    def shared_pages(self, sequences: Sequence[int]) -> list[int]:
        """Full pages with which all these sequences begin."""
        lists = [self._sequences[s].pages[: self.length(s) // self.page_size] for s in sequences]
        shared: list[int] = []
        for pages in zip(*lists, strict=False):
            if len(set(pages)) > 1:
                break
            shared.append(pages[0])
        return shared

    def keys(self, sequences: Sequence[int], skip_pages: int = 0) -> PagedKeys:
        """Where the keys of these sequences lie, leaving out their first pages."""
        lists = [self._sequences[s].pages[skip_pages:] for s in sequences]
        widest = max(map(len, lists))
        table = torch.tensor([pages + [0] * (widest - len(pages)) for pages in lists])
        skipped = skip_pages * self.page_size
        return PagedKeys(
            table.to(torch.int32),
            self.page_size,
            tuple(self.length(s) - skipped for s in sequences),
        )


class CachedAttention(Attention):
    """Attention of new tokens to all tokens of their sequences; made by :func:`decoding`."""

    def __init__(self, whole: Attention, parts: tuple[Attention, ...], cache: PagedCache,
                 places: Tensor) -> None:  # fmt: skip
        super().__init__(**{f.name: getattr(whole, f.name) for f in fields(whole)})
        object.__setattr__(self, "_state", (parts, cache, places, [0]))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new keys and values, then attend; layers are counted by the calls."""
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
            raise ValueError("a cache has no gradients; decode under torch.no_grad()")
        parts, cache, places, calls = self._state  # type: ignore[attr-defined]
        if not len(q) == len(k) == len(v) == len(places):
            raise ValueError(
                f"the packing describes {len(places)} new tokens, but there are {len(q)} queries, "
                f"{len(k)} keys and {len(v)} values"
            )
        keys, values = cache.write(calls[0], places.to(k.device), k, v)
        calls[0] += 1
        if not parts:
            return super().__call__(q, keys, values)
        outputs, lses = zip(*(part.partial(q, keys, values) for part in parts), strict=True)
        return merge_attentions(outputs, lses)[0]

    def partial(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """A step is whole: raises ``ValueError``."""
        raise ValueError("cache is for whole attention; partial attention takes none")


def decoding(
    cache: tuple[PagedCache, Sequence[int]],
    pattern: AttentionSpec,
    options: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
) -> CachedAttention:
    """Attention for one step of a causal decoder.

    Networks call this when they are given ``cache=(cache, sequences)``. What all sequences begin
    with is attended to once for all of them, and merged with the rest, where neither a mask nor a
    score depends on the position.

    Parameters
    ----------
    cache
        Where keys and values are kept, and the numbers of the sequences, one for each event of the
        pattern. Room for the new tokens is made here.
    pattern
        Packing of the new tokens; mask and score as for the whole sequences, which no query sees
        beyond itself; scale.
    options
        ``backend``, ``strict``, ``compute_dtype``, ``head_width``, ``max_seqlen_q`` and
        ``max_seqlen_k``, of :func:`lgatr.attention.prepare_attention`.
    device, dtype
        Of the queries.

    Raises
    ------
    ValueError
        If sequences and events do not fit, there is no room, or no backend runs the pattern;
        the cache stays as it was.
    """
    pages, sequences = _checked(cache, pattern)
    assert pattern.packing is not None
    counts = pattern.packing.lengths
    places = pages.extend(sequences, counts)
    try:
        whole, parts = _step(pages, sequences, pattern, options, device, dtype)
    except Exception:
        pages.shorten(sequences, counts)
        raise
    return CachedAttention(whole, parts, pages, places)


def _checked(cache: Any, pattern: AttentionSpec) -> tuple[PagedCache, list[int]]:
    if not (isinstance(cache, tuple) and len(cache) == 2 and isinstance(cache[0], PagedCache)):
        raise TypeError("cache is a pair (PagedCache, numbers of its sequences)")
    pages, sequences = cache[0], list(cache[1])
    assert pattern.packing is not None
    if pattern.packing.num_events != len(sequences):
        raise ValueError(
            f"cache has {len(sequences)} sequences for {pattern.packing.num_events} events"
        )
    if len(set(sequences)) < len(sequences):
        raise ValueError("a sequence stands twice in the batch; fork it")
    return pages, sequences


def _step(
    cache: PagedCache,
    sequences: list[int],
    pattern: AttentionSpec,
    options: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Attention, tuple[Attention, ...]]:
    """Attention to all tokens; and to the common beginning and the rest, where that is less."""
    options = {name: options[name] for name in _OPTIONS if name in options}
    limits = {name: options.pop(name) for name in _LIMITS if name in options}
    mask = continued_mask(pattern.mask)
    score = None if pattern.score is None else ContinuedScore(pattern.score)
    spec = replace(pattern, kv_packing=cache.keys(sequences), mask=mask, score=score)
    whole = prepare_attention(device, dtype, spec=spec, **options, **limits)
    shared = cache.shared_pages(sequences) if len(sequences) > 1 else []
    if not shared or score is not None or mask != Causal(bottom_right=True):
        return whole, ()
    assert pattern.packing is not None
    own = replace(spec, kv_packing=cache.keys(sequences, len(shared)))
    everyone = Packing.from_lengths([pattern.packing.num_tokens], pattern.packing.device)
    table = torch.tensor([shared], dtype=torch.int32)
    length = len(shared) * cache.page_size
    beginning = AttentionSpec(
        packing=everyone,
        kv_packing=PagedKeys(table, cache.page_size, (length,)),
        scale=pattern.scale,
    )
    parts = (prepare_attention(device, dtype, spec=s, **options) for s in (beginning, own))
    return whole, tuple(parts)
