"""PyTorch's own scaled dot-product attention, on every device, with every mask and score.

Dense batches go to torch as they are. A packed batch is one call of a kernel in C++ on CPUs;
without a compiler it is cut into groups of events of equal length, each of which is one batched
call on a view. Nothing is padded, and no dense block-diagonal mask is ever built. On CUDA a packed
batch is one call of torch's memory-efficient kernel, which takes offsets in float32 too. Other
patterns run block by block; see :mod:`lgatr.attention.backends.native.scored`.

While torch traces a program (compilation, export) the lengths are data, not numbers; there packed
attention is one operator of its own,
:func:`lgatr.attention.backends.native.traced.packed_attention`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.attention.backends.base import Backend, Capabilities
from lgatr.attention.backends.cu_seqlens import has_queries_without_keys
from lgatr.attention.backends.dropout import draw_seed
from lgatr.attention.backends.native.cpu import MAX_KEYS, EventsStage
from lgatr.attention.backends.native.cuda import LONGEST, PackedEvents, packed_events
from lgatr.attention.backends.native.events import (
    attention_of_events,
    dense_attention,
    events_stage,
)
from lgatr.attention.backends.native.masked import SHORT, MaskedEvents
from lgatr.attention.backends.native.score_terms import ScoreTerms
from lgatr.attention.backends.native.scored import ScoreChanges, scored_attention
from lgatr.attention.backends.native.torch_efficient import efficient_attention
from lgatr.attention.backends.native.traced import packed_attention
from lgatr.attention.pattern.features import PATTERN_FEATURES
from lgatr.attention.pattern.masks import Band, DenseMask
from lgatr.attention.pattern.packing import BoundedPacking, Packing
from lgatr.attention.pattern.scores import DenseBias
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.ops._runtime.stage import needs_plain_formula


@lru_cache(maxsize=8)
def _plain_causality(band: Band, queries: tuple[int, ...], keys: tuple[int, ...]) -> bool | None:
    """Torch's ``is_causal`` for a band over these events, or None if it has no such mask."""
    equal = queries == keys
    if band.right == 0 and band.left is None and (equal or not band.bottom_right):
        return True
    if band == Band(None, 0, True) and set(queries) == {1}:
        return False  # one query, the last: it sees all keys
    return None


def _causality(spec: AttentionSpec, queries: Packing, keys: Packing) -> bool | None:
    """Torch's ``is_causal`` for the mask of a packed pattern, or None if it has no such mask."""
    if spec.mask is None:
        return False
    band = spec.mask.band()
    return None if band is None else _plain_causality(band, queries.lengths, keys.lengths)


def _is_empty(q: Tensor, k: Tensor) -> bool:
    """Whether a dense batch has no events, or events without queries or keys."""
    return 0 in (*q.shape[:-2], k.shape[-3])


def _nothing(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Zeros, and a log-sum-exp of minus infinity."""
    # From the inputs, so that they have gradients of zero.
    everything = torch.ones((), dtype=torch.bool, device=q.device)
    none = q[..., :1].masked_fill(everything, 0.0)
    for x in (k, v):
        none = none + x.masked_fill(everything, 0.0).sum()
    lse = none.squeeze(-1).to(torch.promote_types(q.dtype, torch.float32))
    return none.expand(*q.shape[:-1], v.shape[-1]), lse - math.inf


class NativePlan(NamedTuple):
    """What is decided once for all layers of a forward pass."""

    places: Tensor | None
    """Indices of the keys in their storage; None if they lie end to end."""
    stage: EventsStage | MaskedEvents | PackedEvents | None
    """The kernel of this library, if it computes the pattern in one call."""


def _formula(spec: AttentionSpec) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return NativeBackend._scored(q, k, v, spec, False)[0]

    return formula


def _stage_on_cpu(spec: AttentionSpec, device: torch.device) -> EventsStage | MaskedEvents | None:
    """The kernel in C++ that computes attention inside events with this pattern, if one does."""
    if device.type != "cpu" or torch.compiler.is_compiling():
        return None
    queries, keys = spec.packing, spec.key_packing
    if queries is None or keys is None or spec.dropout > 0.0:
        return None
    if isinstance(queries, BoundedPacking) or isinstance(keys, BoundedPacking):
        return None  # whose lengths may be others in the next layer
    causal = None if spec.score is not None else _causality(spec, queries, keys)
    if causal is not None and keys.max_length <= (SHORT if causal else MAX_KEYS):
        return events_stage(queries.lengths, keys.lengths, causal, spec.scale)
    terms = ScoreTerms.of(spec.score)
    if terms is None:
        return None
    lengths = queries.lengths, keys.lengths
    return MaskedEvents(_formula(spec), *lengths, spec.mask, terms, spec.scale)


def _stage_on_cuda(spec: AttentionSpec, device: torch.device) -> PackedEvents | None:
    """The kernels in Triton, if they compute the pattern, and faster than torch's kernel does."""
    if device.type != "cuda" or torch.compiler.is_compiling():
        return None

    stage = packed_events(spec, _formula(spec))
    if stage is None or (spec.score is None and stage.keys.max_length > LONGEST):
        return None
    return stage


class NativeBackend(Backend):
    """PyTorch's attention and this library's own kernels, for every pattern and device."""

    name = "native"
    capabilities = Capabilities(
        features=frozenset(PATTERN_FEATURES),
        devices=frozenset({"cpu", "cuda", "mps"}),
        dtypes=frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16}),
    )

    def plan(self, spec: AttentionSpec, device: torch.device) -> NativePlan:
        """Indices of stored keys, and a kernel of this library where the pattern allows it."""
        places = None if spec.storage is None else spec.storage.index().to(device)
        stage = _stage_on_cpu(spec, device) or _stage_on_cuda(spec, device)
        return NativePlan(places, stage)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: NativePlan
    ) -> Tensor:
        if spec.packing is None:
            return self._dense(q, k, v, spec)
        if plan.places is not None:
            k, v = k.index_select(0, plan.places), v.index_select(0, plan.places)
        if torch.compiler.is_compiling():
            return self._traced(q, k, v, spec)
        stage = plan.stage
        if stage is not None and stage.accepts(q, k, v):
            return stage(q, k, v)[0]
        out = self._by_torch_on_cuda(q, k, v, spec)
        if out is None:
            out = self._by_events(q, k, v, spec)
        return self._scored(q, k, v, spec, False)[0] if out is None else out

    def attend_partial(
        self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, plan: NativePlan
    ) -> tuple[Tensor, Tensor]:
        if plan.places is not None:
            k, v = k.index_select(0, plan.places), v.index_select(0, plan.places)
        out, lse = self._scored(q, k, v, spec, True)
        assert lse is not None
        return out, lse

    @staticmethod
    def _by_torch_on_cuda(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor | None:
        """Packed attention by torch's kernel for CUDA: any band and dropout, no scores.

        None where it does not compute that.
        """
        queries, keys = spec.packing, spec.key_packing
        if spec.score is not None or queries is None or keys is None:
            return None
        if not q.is_cuda or q.dtype == torch.float64 or needs_plain_formula():
            return None
        band = None if spec.mask is None else spec.mask.band()
        if spec.mask is not None and (band is None or has_queries_without_keys(spec, band)):
            return None
        return efficient_attention(q, k, v, queries, keys, band, spec.dropout, spec.scale)

    @staticmethod
    def _by_events(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor | None:
        """Packed attention with a causal mask or none, no scores and no dropout.

        None for other patterns.
        """
        queries, keys = spec.packing, spec.key_packing
        if spec.score is not None or spec.dropout > 0.0 or queries is None or keys is None:
            return None
        causal = _causality(spec, queries, keys)
        if causal is None:
            return None
        return attention_of_events(q, k, v, queries.lengths, keys.lengths, causal, spec.scale)

    @staticmethod
    def _traced(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        assert spec.packing is not None and spec.key_packing is not None
        if spec.dropout > 0.0:
            raise ValueError("a compiled network has no dropout of packed attention weights")
        if spec.score is not None or not (spec.mask is None or spec.causal):
            raise ValueError("a compiled network has packed attention with Causal() or no mask")
        return packed_attention(
            q, k, v, spec.packing.ptr, spec.key_packing.ptr, spec.causal, spec.scale
        )

    def _dense(self, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        tracing = torch.compiler.is_compiling()
        if not tracing and _is_empty(q, k):
            return _nothing(q, k, v)[0]
        ours = spec.dropout > 0.0 and q.device.type == "cpu" and not tracing
        if not ours:
            table: Tensor | None = None
            simple = spec.score is None and (spec.mask is None or spec.causal)
            if isinstance(spec.mask, DenseMask) and spec.score is None:
                simple, table = True, spec.mask.table
            elif isinstance(spec.score, DenseBias) and spec.mask is None:
                simple, table = True, spec.score.table
            if table is not None and table.dim() == 4 and table.shape[0] != 1 and q.dim() > 4:
                simple = False  # events of several batch dimensions, counted through
            if simple:
                return dense_attention(q, k, v, table, spec.causal, spec.dropout, spec.scale)
        if tracing:
            raise ValueError("a compiled network has Causal(), a tensor, or no mask")
        return self._scored(q, k, v, spec, False)[0]

    @staticmethod
    def _scored(
        q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, want_lse: bool
    ) -> tuple[Tensor, Tensor | None]:
        seed = draw_seed() if spec.dropout else 0
        changes = ScoreChanges(spec, q.device, q.dtype, q.shape[-1], seed)
        if spec.packing is not None and spec.key_packing is not None:
            lengths = spec.packing.lengths, spec.key_packing.lengths
            return scored_attention(q, k, v, *lengths, changes, want_lse)
        if _is_empty(q, k):
            return _nothing(q, k, v)
        batch, items = q.shape[:-3], q.shape[-3]
        events = batch.numel()
        lengths = (items,) * events, (k.shape[-3],) * events
        q, k, v = (
            x.expand(*batch, *x.shape[-3:]).reshape(events * x.shape[-3], *x.shape[-2:])
            for x in (q, k, v)
        )
        out, lse = scored_attention(q, k, v, *lengths, changes, want_lse)
        if lse is not None:
            lse = lse.view(*batch, items, -1)
        return out.view(*batch, items, *out.shape[1:]), lse
