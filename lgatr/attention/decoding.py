"""One step of a causal decoder whose keys and values are kept in a cache.

Legend: T new tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.cache import Growth, PagedCache
from lgatr.attention.partial import merge_attentions
from lgatr.attention.pattern.continued import ContinuedScore, continued_mask
from lgatr.attention.pattern.key_storage import PagedKeys
from lgatr.attention.pattern.masks import Causal
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.attention.prepare import Attention, prepare_attention

_LIMITS = ("max_seqlen_q", "max_seqlen_k")
_OPTIONS = ("backend", "strict", "compute_dtype", "head_width", *_LIMITS)


@dataclass
class _Step:
    """One step of a decoder: where its tokens go in the cache, and how to take it back."""

    cache: PagedCache
    places: Tensor
    journal: list[Growth]
    layers_before: int
    calls: int = 0

    @contextmanager
    def layer(self, q: Tensor, k: Tensor, v: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Storage of the next layer, with its new keys and values written."""
        if any(growth.undone for growth in self.journal):
            raise ValueError("this step with cache has failed before; prepare it again")
        try:
            self._check(q, k, v)
            yield self.cache.write(self.calls, self.places.to(k.device), k, v)
        except BaseException:
            self.cache.undo(self.journal, self.layers_before)
            raise
        self.calls += 1

    def _check(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
            raise ValueError("a cache has no gradients; decode under torch.no_grad()")
        if not len(q) == len(k) == len(v) == len(self.places):
            raise ValueError(
                f"the packing describes {len(self.places)} new tokens, but there are {len(q)} "
                f"queries, {len(k)} keys and {len(v)} values"
            )


class CachedAttention(Attention):
    """Attention of new tokens to all tokens of their sequences; made by :func:`decoding`."""

    def __init__(self, whole: Attention, parts: tuple[Attention, ...], step: _Step) -> None:
        super().__init__(**{f.name: getattr(whole, f.name) for f in fields(whole)})
        object.__setattr__(self, "_state", (parts, step))

    def fits_one_graph(self, q: Tensor) -> bool:
        """See :meth:`Attention.fits_one_graph`: a cache changes with every call."""
        return False

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new keys and values, then attend; layers are counted by the calls.

        If this fails, the cache is as it was before the step, which is prepared again.
        """
        parts, step = self._state  # type: ignore[attr-defined]
        with step.layer(q, k, v) as (keys, values):
            if not parts:
                return super()._attend(q, keys, values)
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
    layers = pages.layers
    with pages.undone_on_error() as journal:
        places = pages.extend(sequences, pattern.packing.lengths)
        whole, parts = _step(pages, sequences, pattern, options, device, dtype)
    return CachedAttention(whole, parts, _Step(pages, places, journal, layers))


def _checked(cache: Any, pattern: AttentionSpec) -> tuple[PagedCache, list[int]]:
    pair = isinstance(cache, tuple) and len(cache) == 2 and isinstance(cache[0], PagedCache)
    if not pair or not isinstance(cache[1], Iterable):
        raise TypeError("cache is a pair (PagedCache, numbers of its sequences)")
    pages, sequences = cache[0], list(cache[1])
    assert pattern.packing is not None
    if pattern.packing.num_events != len(sequences):
        raise ValueError(
            f"cache has {len(sequences)} sequences for {pattern.packing.num_events} events"
        )
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
    table = torch.tensor([shared], dtype=torch.int32, device="cpu")
    length = len(shared) * cache.page_size
    beginning = AttentionSpec(
        packing=everyone,
        kv_packing=PagedKeys(table, cache.page_size, (length,)),
        scale=pattern.scale,
    )
    parts = (prepare_attention(device, dtype, spec=s, **options) for s in (beginning, own))
    return whole, tuple(parts)
