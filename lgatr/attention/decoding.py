"""One step of a causal decoder whose keys and values are kept in a cache.

Legend: T new tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.cache import Growth, PagedCache
from lgatr.attention.merge import merge_attentions
from lgatr.attention.pattern.continued import ContinuedScore, continued_mask
from lgatr.attention.pattern.key_storage import PagedKeys
from lgatr.attention.pattern.masks import Causal
from lgatr.attention.pattern.packing import Packing
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.attention.prepared import Attention, plan_attention


@dataclass
class _Step:
    """Where the tokens of a step go in the cache, and the journal that undoes the step."""

    cache: PagedCache
    places: Tensor
    journal: list[Growth]
    layers_before: int
    calls: int = 0

    @contextmanager
    def layer(self, q: Tensor, k: Tensor, v: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Write the new keys and values of the next layer; yields the layer's storage."""
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
        if 0 < self.layers_before == self.calls:
            raise ValueError(
                f"the cache has keys of {self.layers_before} layers, and a network of more cannot "
                "continue its sequences; use a cache for each network"
            )
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
        super().__init__(
            whole.spec, whole.requested, whole.backend, whole.plan, whole.dtype, whole.head_width
        )
        self._whole, self._parts, self._step = whole, parts, step

    def fits_one_graph(self, q: Tensor) -> bool:
        return False  # a cache changes with every call

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new keys and values, then attend; layers are counted by the calls.

        If this fails, the cache is as it was before the step, which is prepared again.
        """
        with self._step.layer(q, k, v) as (keys, values):
            if not self._parts:
                return self._whole(q, keys, values)
            pairs = (part.partial(q, keys, values) for part in self._parts)
            outputs, lses = zip(*pairs, strict=True)
            return merge_attentions(outputs, lses)[0]

    def partial(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Not available with a cache: raises ``ValueError``."""
        raise ValueError("cache is for whole attention; partial attention takes none")


def decoding(
    cache: tuple[PagedCache, Sequence[int]],
    pattern: AttentionSpec,
    options: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    limits: Mapping[str, int] = MappingProxyType({}),
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
        ``backend``, ``strict``, ``compute_dtype`` and ``head_width`` of
        :func:`lgatr.attention.prepare_attention`.
    device, dtype
        Of the queries.
    limits
        Its ``max_seqlen_q`` and ``max_seqlen_k``.

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
        spec = _continued(pages, sequences, pattern)
        spec.check_max_seqlens(limits)
        whole = plan_attention(spec, device, dtype, **options)
        specs = _shared_and_own(pages, sequences, spec)
        parts = tuple(plan_attention(part, device, dtype, **options) for part in specs)
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


def _continued(cache: PagedCache, sequences: list[int], pattern: AttentionSpec) -> AttentionSpec:
    """The pattern of the new tokens as the last queries of their sequences."""
    return replace(
        pattern,
        kv_packing=cache.keys(sequences),
        mask=continued_mask(pattern.mask),
        score=None if pattern.score is None else ContinuedScore(pattern.score),
    )


def _shared_and_own(
    cache: PagedCache, sequences: list[int], spec: AttentionSpec
) -> tuple[AttentionSpec, ...]:
    """Attention to the shared beginning and to each rest; empty if nothing is shared."""
    shared = cache.shared_pages(sequences) if len(sequences) > 1 else []
    if not shared or spec.score is not None or spec.mask != Causal(bottom_right=True):
        return ()
    assert spec.packing is not None
    everyone = Packing.from_lengths([spec.packing.num_tokens], spec.packing.device)
    table = torch.tensor([shared], dtype=torch.int32, device="cpu")
    length = len(shared) * cache.page_size
    beginning = AttentionSpec(
        packing=everyone,
        kv_packing=PagedKeys(table, cache.page_size, (length,)),
        scale=spec.scale,
    )
    return beginning, replace(spec, kv_packing=cache.keys(sequences, len(shared)))
