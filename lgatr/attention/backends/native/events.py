"""Attention inside events in the fastest way of CPUs, and dense attention, which it is made of.

Legend: T query tokens, U key tokens, H heads, K key-value heads (H or a divisor), D head width.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from lgatr.attention.backends.native.cpu import MAX_KEYS, EventsStage
from lgatr.attention.backends.native.grouping import Arrangement, Groups, arrangement_of
from lgatr.attention.backends.native.torch_dense import attention_by_torch
from lgatr.attention.backends.native.torch_groups import GroupsStage
from lgatr.ops._runtime.stage import needs_plain_formula


def reorder(x: Tensor, order: tuple[Tensor, Tensor]) -> Tensor:
    """Permute tokens by ``(permutation, inverse)``."""
    order = (order[0].to(x.device), order[1].to(x.device))
    # Plain indexing where derivatives are taken that a custom function does not have.
    if needs_plain_formula():
        return x[order[0]]
    moved: Tensor = _Reorder.apply(x, *order)
    return moved


class _Reorder(torch.autograd.Function):
    """Permute tokens. The gradient is the inverse permutation, a look-up without additions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forth: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(forth, back)
        return x.index_select(0, forth)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        forth, back = ctx.saved_tensors
        return _Reorder.apply(grad, back, forth), None, None


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attention on ``(..., items, heads, D)``; keys and values may share heads."""
    heads = q.shape[-2]
    # Torch wants heads before items; keys with one head for all are views, not copies.
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    if k.shape[-3] == 1:
        k, v = (x.expand(*x.shape[:-3], heads, *x.shape[-2:]) for x in (k, v))
    elif k.shape[-3] != heads:
        k, v = (x.repeat_interleave(heads // x.shape[-3], dim=-3) for x in (k, v))
    if mask is not None and mask.dim() > q.dim():
        mask = mask.reshape(mask.shape[-q.dim() :])  # of one event without a dimension of events
    return attention_by_torch(q, k, v, mask, causal, dropout, scale).transpose(-3, -2)


def attention_of_events(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: tuple[int, ...],
    keys: tuple[int, ...],
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention on ``(T, H, D)`` and ``(U, K, D)``, inside events of these lengths."""
    stage = events_stage(queries, keys, causal, scale)
    if stage is not None and stage.accepts(q, k, v):
        return stage(q, k, v)[0]
    return _in_groups(queries, keys, causal, scale, q, k, v)


@lru_cache(maxsize=16)
def events_stage(
    queries: tuple[int, ...], keys: tuple[int, ...], causal: bool, scale: float | None
) -> EventsStage | None:
    """Attention inside events of these lengths by C++, or None if its kernels do not take them.

    Made once for all layers, and for batches of the same lengths.
    """
    if max(keys, default=0) > MAX_KEYS or not (scale is None or scale > 0):
        return None
    formula = partial(_in_groups, queries, keys, causal, scale)
    return EventsStage(formula, queries, keys, causal, scale)


def _in_groups(
    queries: tuple[int, ...],
    keys: tuple[int, ...],
    causal: bool,
    scale: float | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
) -> Tensor:
    per_token = 4 * q.shape[1] * q.shape[2] * q.element_size()
    arrangement = arrangement_of(queries, keys, per_token)
    return attention_by_groups(q, k, v, arrangement, causal, scale)


def attention_by_groups(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    arrangement: Arrangement,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention on ``(T, H, D)`` and ``(U, K, D)``, one dense call for each group."""
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if not (needs_grad or needs_plain_formula()):
        return _group_by_group(q, k, v, arrangement, causal, scale)
    groups, q_order, k_order, _ = arrangement
    if q_order is not None and k_order is not None:
        q, k, v = reorder(q, q_order), reorder(k, k_order), reorder(v, k_order)
    if GroupsStage.applies(q, k, v):
        formula = partial(_joined_groups, groups, causal, scale)
        stage = GroupsStage(formula, *groups, causal, scale)
        (out,) = stage(q, k, v)
    else:
        out = _joined_groups(groups, causal, scale, q, k, v)
    if q_order is None:
        return out
    return reorder(out, (q_order[1], q_order[0]))


def _joined_groups(
    groups: Groups,
    causal: bool,
    scale: float | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
) -> Tensor:
    # One split is one autograd node whose gradient is one concatenation; slices by index
    # would each allocate and zero-fill a gradient of the whole batch.
    queries, keys = groups.tokens(groups.queries), groups.tokens(groups.keys)
    parts = zip(
        q.split(queries), k.split(keys), v.split(keys), groups.queries, groups.keys, strict=True
    )
    outputs = []
    for part_q, part_k, part_v, n, m in parts:
        queries_of_group = part_q.unflatten(0, (-1, n))
        keys_of_group, values_of_group = part_k.unflatten(0, (-1, m)), part_v.unflatten(0, (-1, m))
        out = dense_attention(
            queries_of_group, keys_of_group, values_of_group, causal=causal, scale=scale
        )
        outputs.append(out.flatten(0, 1))
    return torch.cat(outputs)


def _group_by_group(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    arrangement: Arrangement,
    causal: bool,
    scale: float | None,
) -> Tensor:
    """:func:`attention_by_groups` without gradients: each group is written into its place."""
    groups, q_order, k_order, _ = arrangement
    out = q.new_empty(*q.shape[:-1], v.shape[-1])
    q_start = k_start = 0
    for events, n, m in zip(*groups, strict=True):
        q_place = slice(q_start, q_start + events * n)
        k_place = slice(k_start, k_start + events * m)
        q_start, k_start = q_place.stop, k_place.stop
        if q_order is None or k_order is None:
            parts = q[q_place], k[k_place], v[k_place]
        else:
            q_index = q_order[0][q_place].to(q.device)
            k_index = k_order[0][k_place].to(q.device)
            parts = q[q_index], k[k_index], v[k_index]
        part_q, part_k, part_v = (x.unflatten(0, (events, -1)) for x in parts)
        part = dense_attention(part_q, part_k, part_v, causal=causal, scale=scale).flatten(0, 1)
        if q_order is None:
            out[q_place] = part
        else:
            out.index_copy_(0, q_index, part)
    return out
