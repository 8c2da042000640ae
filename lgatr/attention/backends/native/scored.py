"""Attention with any mask and any score modification, in plain torch operations.

Legend: T query tokens, U key tokens, H heads, K key-value heads (H or a divisor), D head width.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lgatr.attention.backends.dropout import drop_threshold, keep_mask
from lgatr.attention.backends.native.blocks import (
    MAX_SCORES,
    MAX_SHORT_EVENT,
    Block,
    blocks_of,
    sorted_blocks,
)
from lgatr.attention.backends.native.events import reorder
from lgatr.attention.backends.native.grouping import Arrangement, arrangement_of
from lgatr.attention.backends.native.ranges import ranges_of
from lgatr.attention.backends.native.torch_dense import attention_by_torch
from lgatr.attention.pattern.masks import Mask
from lgatr.attention.pattern.masks.base import checked_mask
from lgatr.attention.pattern.number_formats import format_of_scores
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.scores import ScoreMod
from lgatr.attention.pattern.scores.base import checked_bias, checked_scores
from lgatr.attention.pattern.spec import AttentionSpec
from lgatr.ops._runtime.stage import needs_plain_formula

# Scores of all blocks kept for the backward pass at most; beyond, they are computed again.
_MAX_SCORES_KEPT = 4 * MAX_SCORES


def _precise(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers of a modification, no less precise than scores of queries in ``dtype`` are."""
    return (
        x.to(torch.promote_types(x.dtype, format_of_scores(dtype))) if x.is_floating_point() else x
    )


class ScoreChanges:
    """What one call does to the scores: scale, modification, mask, dropout with its seed."""

    def __init__(
        self,
        spec: AttentionSpec,
        device: torch.device,
        dtype: torch.dtype,
        width: int,
        seed: int | Tensor,
    ) -> None:
        self.mask: Mask | None = None if spec.mask is None else spec.mask.to(device)
        self.score: ScoreMod | None = None
        if spec.score is not None:
            self.score = spec.score.to(device).map(partial(_precise, dtype=dtype))
        self.scale = 1.0 / math.sqrt(width) if spec.scale is None else spec.scale
        self.dropout = spec.dropout
        self.seed = seed.to(device) if isinstance(seed, Tensor) else seed

    def may_need_gradients(self, *tensors: Tensor) -> bool:
        """Whether gradients may be wanted, of these tensors or of any that a score holds.

        A function may use tensors that nobody can list, so that every score may need them.
        """
        return torch.is_grad_enabled() and (
            self.score is not None or any(x.requires_grad for x in tensors)
        )


def _allowed(changes: ScoreChanges, at: Positions) -> Tensor | None:
    """The mask with four dimensions."""
    if changes.mask is None:
        return None
    allowed = checked_mask(changes.mask.allowed(at), at, type(changes.mask).__name__)
    return allowed.view((1,) * (4 - allowed.dim()) + tuple(allowed.shape))


def _heads_first(x: Tensor, events: int, heads: int) -> Tensor:
    """``(tokens, K, D)`` to ``(events, H, items, D)``; shared heads are views."""
    x = x.unflatten(0, (events, -1)).transpose(1, 2)
    if x.shape[1] == heads:
        return x
    repeated = x.unsqueeze(2).expand(-1, -1, heads // x.shape[1], -1, -1)
    return repeated.flatten(1, 2)


def _fused(q: Tensor, k: Tensor, v: Tensor, changes: ScoreChanges, at: Positions) -> Tensor | None:
    """Torch's fused kernel where all changes are a sum; None where they are not."""
    bias = None if changes.score is None else changes.score.bias(at)
    if changes.dropout > 0.0 or (changes.score is not None and bias is None):
        return None
    table = _allowed(changes, at)
    if bias is not None:
        name = f"the bias of {type(changes.score).__name__}"
        bias = checked_bias(bias, format_of_scores(q.dtype), at, name)
        table = bias if table is None else bias.masked_fill(~table, -math.inf)
    if table is not None:
        table = table.expand(*q.shape[:3], k.shape[2])
    return attention_by_torch(q, k, v, table, scale=changes.scale)


def _plain(
    q: Tensor, k: Tensor, v: Tensor, changes: ScoreChanges, at: Positions
) -> tuple[Tensor, Tensor]:
    """The formula itself: outputs ``(events, H, q, D)`` and log-sum-exp ``(events, H, q)``."""
    dtype = format_of_scores(q.dtype)
    scores = (q.to(dtype) * changes.scale) @ k.to(dtype).transpose(-1, -2)
    if changes.score is not None:
        name = type(changes.score).__name__
        # Functions of positions alone return one entry for many scores.
        scores = checked_scores(changes.score(scores, at), scores, at, name).expand(scores.shape)
    allowed = _allowed(changes, at)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    # The result does not depend on what is subtracted, which only keeps exponentials in range: no
    # gradient. Rows without a score above minus infinity have weights of zero, and no NaN.
    highest = scores.detach().amax(-1, keepdim=True)
    empty = highest == -math.inf
    highest = highest.masked_fill(empty, 0.0)
    weights = torch.exp(scores - highest)
    total = weights.sum(-1, keepdim=True).masked_fill(empty, 1.0)
    if changes.dropout > 0.0:
        keep = keep_mask(changes.seed, at, drop_threshold(changes.dropout))
        weights = weights * keep / (1.0 - changes.dropout)
    out = (weights @ v.to(dtype)) / total
    lse = (total.log() + highest).masked_fill(empty, -math.inf)
    return out.to(v.dtype), lse.squeeze(-1)


def _attend_block(
    q: Tensor, k: Tensor, v: Tensor, block: Block, changes: ScoreChanges, want_lse: bool
) -> tuple[Tensor, Tensor | None]:
    """Outputs ``(tokens, H, D)`` and log-sum-exp ``(tokens, H)`` of one block."""
    events, heads = len(block.events), q.shape[1]
    if not len(block.k):
        # From the queries, so that they have a gradient of zero.
        empty = q[..., :1].masked_fill(torch.ones((), dtype=torch.bool, device=q.device), 0.0)
        return empty.expand(*q.shape[:2], v.shape[-1]), empty.squeeze(-1).to(
            torch.promote_types(q.dtype, torch.float32)
        ) - math.inf
    at = block.positions(heads, q.device)
    q, k, v = (_heads_first(x, events, heads) for x in (q, k, v))
    out = None if want_lse else _fused(q, k, v, changes, at)
    total: Tensor | None = None
    if out is None:
        out, total = _plain(q, k, v, changes, at)
        total = total.transpose(1, 2).flatten(0, 1)
    return out.transpose(1, 2).flatten(0, 1), total


def scored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: tuple[int, ...],
    keys: tuple[int, ...],
    changes: ScoreChanges,
    want_lse: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention of packed events with any mask and score modification.

    Parameters
    ----------
    q
        ``(T, H, D)``.
    k, v
        ``(U, K, D)``.
    queries, keys
        Tokens of each event.
    changes
        Mask, score modification, scale and dropout.
    want_lse
        Whether to give the log-sum-exp too.

    Returns
    -------
    out
        ``(T, H, D)``; zeros where a query may attend to nothing.
    lse
        ``(T, H)`` logarithm of the sum of exponentials of a query's scores, or None.
    """
    heads = q.shape[1]
    arrangement: Arrangement | None = None
    if max(queries) <= MAX_SHORT_EVENT:
        arrangement = arrangement_of(queries, keys, 4 * heads * q.shape[2] * q.element_size())
    track = changes.may_need_gradients(q, k, v) or needs_plain_formula()
    if arrangement is None or arrangement.events is None:
        blocks = list(blocks_of(queries, keys, heads, changes.mask))
        if not track:
            return _without_gradients(q, k, v, blocks, None, changes, want_lse)
        return _by_blocks(q, k, v, blocks, changes, want_lse)
    assert arrangement.q_order is not None and arrangement.k_order is not None
    blocks = list(sorted_blocks(queries, keys, arrangement.events, heads))
    if not track:
        forth = (arrangement.q_order[0], arrangement.k_order[0])
        return _without_gradients(q, k, v, blocks, forth, changes, want_lse)
    q = reorder(q, arrangement.q_order)
    k, v = (reorder(x, arrangement.k_order) for x in (k, v))
    out, lse = _by_blocks(q, k, v, blocks, changes, want_lse)
    undo = (arrangement.q_order[1], arrangement.q_order[0])
    return reorder(out, undo), None if lse is None else reorder(lse, undo)


def _without_gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: list[Block],
    order: tuple[Tensor, Tensor] | None,
    changes: ScoreChanges,
    want_lse: bool,
) -> tuple[Tensor, Tensor | None]:
    """Write each block into the output; ``order`` permutes the tokens that blocks count."""
    out, lse = _empty_results(q, v, want_lse)
    for block in blocks:
        q_place: Tensor | slice = slice(block.q_tokens.start, block.q_tokens.stop)
        k_place: Tensor | slice = slice(block.k_tokens.start, block.k_tokens.stop)
        if order is not None:
            q_place, k_place = order[0][q_place].to(q.device), order[1][k_place].to(q.device)
        part, total = _attend_block(q[q_place], k[k_place], v[k_place], block, changes, want_lse)
        out[q_place] = part
        if want_lse and total is not None:
            lse[q_place] = total
    return out, lse if want_lse else None


def _empty_results(q: Tensor, v: Tensor, want_lse: bool) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    lse = q.new_empty(q.shape[:2] if want_lse else (0,), dtype=dtype)
    return q.new_empty(*q.shape[:2], v.shape[-1]), lse


def _by_blocks(
    q: Tensor, k: Tensor, v: Tensor, blocks: list[Block], changes: ScoreChanges, want_lse: bool
) -> tuple[Tensor, Tensor | None]:
    q_parts = q.split([len(b.q_tokens) for b in blocks])
    k_parts, v_parts = (ranges_of(x, [b.k_tokens for b in blocks]) for x in (k, v))
    scores = sum(len(b.q_tokens) * len(b.k) for b in blocks) * q.shape[1]
    whole = all(b.whole for b in blocks)
    attend = _attend_block
    if (scores > _MAX_SCORES_KEPT or not whole) and not needs_plain_formula():
        # Scores are computed again in the backward pass, so that memory is linear in the tokens.
        # The blocks remain ordinary operations: whatever tensors a score uses get gradients.
        random = changes.score is not None
        attend = partial(checkpoint, _attend_block, use_reentrant=False, preserve_rng_state=random)
    parts = zip(q_parts, k_parts, v_parts, blocks, strict=True)
    results = [attend(a, b, c, block, changes, want_lse) for a, b, c, block in parts]
    out = torch.cat([r[0] for r in results])
    return out, torch.cat([r[1] for r in results if r[1] is not None]) if want_lse else None
