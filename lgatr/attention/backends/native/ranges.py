"""Ranges of tokens of a tensor, with one gradient buffer for all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lgatr.ops._runtime.stage import needs_plain_formula


def ranges_of(x: Tensor, ranges: list[range]) -> list[Tensor]:
    """Tokens ``x[r.start : r.stop]`` for each range.

    Parameters
    ----------
    x
        ``(tokens, ...)``.
    ranges
        Tokens, which may overlap or be left out.
    """
    starts = [0, *(r.stop for r in ranges)]
    if [r.start for r in ranges] == starts[:-1] and starts[-1] == len(x):
        # One split is one node of autograd, whose gradient is one concatenation.
        return list(x.split([len(r) for r in ranges]))
    if needs_plain_formula() or not (torch.is_grad_enabled() and x.requires_grad):
        return [x[r.start : r.stop] for r in ranges]
    parts = []
    for r in ranges:
        part, x = _Range.apply(x, r.start, r.stop)
        parts.append(part)
    return parts


class _Range(torch.autograd.Function):
    """A range of tokens, and all tokens again as input of the next range.

    Plain slices would each fill a gradient of the whole tensor. Here one gradient is handed from
    the last range to the first, and each adds its own in place.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        ctx.place, ctx.tokens = (start, stop), len(x)
        ctx.set_materialize_grads(False)
        return x[start:stop], x.view_as(x)

    @staticmethod
    def backward(
        ctx: Any, part: Tensor | None, rest: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        if part is None:
            return rest, None, None
        start, stop = ctx.place
        if rest is None or torch.is_grad_enabled():  # the latter where derivatives follow
            whole = F.pad(part, (0, 0) * (part.dim() - 1) + (start, ctx.tokens - stop))
            return whole if rest is None else rest + whole, None, None
        rest[start:stop] += part
        return rest, None, None
