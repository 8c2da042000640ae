"""Attention with any mask and any score modification, in plain torch operations.

Legend: T query tokens, U key tokens, H heads, K key-value heads (H or a divisor), D head width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.attention.blocks import BUDGET, SHORT, Block, blocks_of, sorted_blocks
from lgatr.attention.dropout import kept, limit_of
from lgatr.attention.masks import Mask
from lgatr.attention.positions import Positions
from lgatr.attention.scores import ScoreMod
from lgatr.attention.spec import AttentionSpec
from lgatr.kernels.derivatives import needs_plain_formula
from lgatr.kernels.packed import Arrangement, arrangement_of, reorder

# Scores of all blocks kept for the backward pass at most; beyond, they are computed again.
_KEPT = 4 * BUDGET


class Pattern:
    """How the scores of one call are changed: mask, modification, scale, dropout with its seed."""

    def __init__(self, spec: AttentionSpec, device: torch.device, width: int, seed: int) -> None:
        self.mask: Mask | None = None if spec.mask is None else spec.mask.to(device)
        self.score: ScoreMod | None = None if spec.score is None else spec.score.to(device)
        self.scale = 1.0 / math.sqrt(width) if spec.scale is None else spec.scale
        self.dropout, self.seed = spec.dropout, seed

    def learned(self) -> list[Tensor]:
        """Tensors of the score modification that require gradients."""
        return [] if self.score is None else self.score.learned()


def _allowed(pattern: Pattern, at: Positions) -> tuple[Tensor | None, Tensor | None]:
    """The mask with dead rows opened, and which rows ``(events, heads, q, 1)`` are alive."""
    if pattern.mask is None:
        return None, None
    allowed = pattern.mask.allowed(at)
    allowed = allowed.view((1,) * (4 - allowed.dim()) + tuple(allowed.shape))
    alive = allowed.any(-1, keepdim=True)
    # A softmax over nothing is not a number, and neither is its gradient; such rows see everything
    # and are multiplied by zero.
    return allowed | ~alive, alive


def _heads_first(x: Tensor, events: int, heads: int) -> Tensor:
    """``(tokens, K, D)`` to ``(events, H, items, D)``; shared heads are views."""
    x = x.unflatten(0, (events, -1)).transpose(1, 2)
    if x.shape[1] == heads:
        return x
    repeated = x.unsqueeze(2).expand(-1, -1, heads // x.shape[1], -1, -1)
    return repeated.flatten(1, 2)


def _fused(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, at: Positions) -> Tensor | None:
    """Torch's fused kernel where all changes are a sum; None where they are not."""
    bias = None if pattern.score is None else pattern.score.bias(at)
    if pattern.dropout > 0.0 or (pattern.score is not None and bias is None):
        return None
    allowed, alive = _allowed(pattern, at)
    table = allowed
    if bias is not None:
        bias = bias.to(q.dtype)
        table = bias if allowed is None else bias.masked_fill(~allowed, -math.inf)
    if table is not None:
        table = table.expand(*q.shape[:3], k.shape[2])
    out = F.scaled_dot_product_attention(q, k, v, table, scale=pattern.scale)
    return out if alive is None else out * alive


def _plain(
    q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, at: Positions
) -> tuple[Tensor, Tensor]:
    """The formula itself: outputs ``(events, H, q, D)`` and log-sum-exp ``(events, H, q)``."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    scores = (q.to(dtype) * pattern.scale) @ k.to(dtype).transpose(-1, -2)
    if pattern.score is not None:
        scores = pattern.score(scores, at)
    allowed, alive = _allowed(pattern, at)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    total = scores.logsumexp(-1)
    weights = torch.exp(scores - total.unsqueeze(-1))
    if pattern.dropout > 0.0:
        keep = kept(pattern.seed, at, limit_of(pattern.dropout))
        weights = weights * keep / (1.0 - pattern.dropout)
    out = (weights @ v.to(dtype)).to(v.dtype)
    if alive is not None:
        out = out * alive
        total = total.masked_fill(~alive.squeeze(-1), -math.inf)
    return out, total


def _attend_block(
    q: Tensor, k: Tensor, v: Tensor, block: Block, pattern: Pattern, want_lse: bool
) -> tuple[Tensor, Tensor | None]:
    """Outputs ``(tokens, H, D)`` and log-sum-exp ``(tokens, H)`` of one block."""
    events, heads = len(block.events), q.shape[1]
    if not len(block.k):
        # Multiplied, not made anew, so that a gradient of zeros flows.
        empty = q[..., :1] * 0.0
        return empty.expand(*q.shape[:2], v.shape[-1]), empty.squeeze(-1).float() - math.inf
    at = block.positions(heads, q.device)
    q, k, v = (_heads_first(x, events, heads) for x in (q, k, v))
    out = None if want_lse else _fused(q, k, v, pattern, at)
    total: Tensor | None = None
    if out is None:
        out, total = _plain(q, k, v, pattern, at)
        total = total.transpose(1, 2).flatten(0, 1)
    return out.transpose(1, 2).flatten(0, 1), total


def _slice(x: Tensor, tokens: range) -> Tensor:
    return x[tokens.start : tokens.stop]


class _Recomputed(torch.autograd.Function):
    """All blocks, with scores computed again in the backward pass: memory linear in tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        blocks: list[Block],
        pattern: Pattern,
        want_lse: bool,
        *learned: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Fill the outputs block by block."""
        ctx.save_for_backward(q, k, v)
        ctx.blocks, ctx.pattern, ctx.want_lse = blocks, pattern, want_lse
        out, lse = _empty_results(q, v, want_lse)
        for block in blocks:
            k_tokens = block.k_tokens
            part, total = _attend_block(
                _slice(q, block.q_tokens),
                _slice(k, k_tokens),
                _slice(v, k_tokens),
                block,
                pattern,
                want_lse,
            )
            _slice(out, block.q_tokens).copy_(part)
            if want_lse and total is not None:
                _slice(lse, block.q_tokens).copy_(total)
        return out, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Accumulate the gradients block by block."""
        inputs = ctx.saved_tensors
        learned = ctx.pattern.learned()
        sums = [torch.zeros_like(x) for x in (*inputs, *learned)]
        for block in ctx.blocks:
            ranges = (block.q_tokens, block.k_tokens, block.k_tokens)
            with torch.enable_grad():
                parts = [
                    _slice(x, tokens).detach().requires_grad_()
                    for x, tokens in zip(inputs, ranges, strict=True)
                ]
                q, k, v = parts
                out, total = _attend_block(q, k, v, block, ctx.pattern, ctx.want_lse)
            outputs, given = [out], [_slice(grads[0], block.q_tokens)]
            if ctx.want_lse and total is not None:
                outputs.append(total)
                given.append(_slice(grads[1], block.q_tokens))
            found = torch.autograd.grad(outputs, [*parts, *learned], given, allow_unused=True)
            places = [_slice(x, tokens) for x, tokens in zip(sums[:3], ranges, strict=True)]
            for place, grad in zip([*places, *sums[3:]], found, strict=True):
                if grad is not None:
                    place += grad
        return (*sums[:3], None, None, None, *sums[3:])


def scored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: tuple[int, ...],
    keys: tuple[int, ...],
    pattern: Pattern,
    want_lse: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention of packed events under any pattern.

    Parameters
    ----------
    q
        ``(T, H, D)``.
    k, v
        ``(U, K, D)``.
    queries, keys
        Tokens of each event.
    pattern
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
    if max(queries) <= SHORT:
        arrangement = arrangement_of(queries, keys, 4 * heads * q.shape[2] * q.element_size())
    needs_grad = torch.is_grad_enabled() and any(
        x.requires_grad for x in (q, k, v, *pattern.learned())
    )
    plain = needs_plain_formula()
    if arrangement is None or arrangement.events is None:
        blocks = list(blocks_of(queries, keys, heads, pattern.mask))
        if not (needs_grad or plain):
            return _without_gradients(q, k, v, blocks, None, pattern, want_lse)
        return _by_blocks(q, k, v, blocks, pattern, want_lse)
    assert arrangement.q_order is not None and arrangement.k_order is not None
    blocks = list(sorted_blocks(queries, keys, arrangement.events, heads))
    if not (needs_grad or plain):
        forth = (arrangement.q_order[0], arrangement.k_order[0])
        return _without_gradients(q, k, v, blocks, forth, pattern, want_lse)
    q = reorder(q, arrangement.q_order)
    k, v = (reorder(x, arrangement.k_order) for x in (k, v))
    out, lse = _by_blocks(q, k, v, blocks, pattern, want_lse)
    undo = (arrangement.q_order[1], arrangement.q_order[0])
    return reorder(out, undo), None if lse is None else reorder(lse, undo)


def _without_gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: list[Block],
    order: tuple[Tensor, Tensor] | None,
    pattern: Pattern,
    want_lse: bool,
) -> tuple[Tensor, Tensor | None]:
    """Block by block into its place; with an order, blocks count tokens in it."""
    out, lse = _empty_results(q, v, want_lse)
    for block in blocks:
        q_place: Tensor | slice = slice(block.q_tokens.start, block.q_tokens.stop)
        k_place: Tensor | slice = slice(block.k_tokens.start, block.k_tokens.stop)
        if order is not None:
            q_place, k_place = order[0][q_place].to(q.device), order[1][k_place].to(q.device)
        part, total = _attend_block(q[q_place], k[k_place], v[k_place], block, pattern, want_lse)
        out[q_place] = part
        if want_lse and total is not None:
            lse[q_place] = total
    return out, lse if want_lse else None


def _empty_results(q: Tensor, v: Tensor, want_lse: bool) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    lse = q.new_empty(q.shape[:2] if want_lse else (0,), dtype=dtype)
    return q.new_empty(*q.shape[:2], v.shape[-1]), lse


def _by_blocks(
    q: Tensor, k: Tensor, v: Tensor, blocks: list[Block], pattern: Pattern, want_lse: bool
) -> tuple[Tensor, Tensor | None]:
    scores = sum(len(b.q_tokens) * len(b.k) for b in blocks) * q.shape[1]
    learned = pattern.learned()
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, *learned))
    if not all(b.whole for b in blocks) or (needs_grad and scores > _KEPT):
        out, lse = _Recomputed.apply(q, k, v, blocks, pattern, want_lse, *learned)
        return out, lse if want_lse else None
    # One split is one node of autograd, whose gradient is one concatenation.
    q_sizes, k_sizes = [len(b.q_tokens) for b in blocks], [len(b.k_tokens) for b in blocks]
    parts = zip(q.split(q_sizes), k.split(k_sizes), v.split(k_sizes), blocks, strict=True)
    results = [_attend_block(a, b, c, block, pattern, want_lse) for a, b, c, block in parts]
    out = torch.cat([r[0] for r in results])
    return out, torch.cat([r[1] for r in results if r[1] is not None]) if want_lse else None
