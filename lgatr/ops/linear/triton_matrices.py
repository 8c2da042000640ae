"""Parameters into matrices on CUDA: one launch forward, one backward.

See :class:`lgatr.ops.linear.placement.Placement`. The tables are small, so what costs is the number
of launches: joining, looking up, signs and sums are five with torch's operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from lgatr.ops._runtime.triton import ceil_div
from lgatr.ops._runtime.triton_launch import Kernel

_BLOCK = 256


@Kernel
@triton.jit
def _placement_kernel(
    parts, starts, table, signs, out, count, first,
    NUM_PARTS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    total = tl.zeros([BLOCK], tl.float32).to(out.dtype.element_ty)
    for r in tl.static_range(ROWS):
        sign = tl.load(signs + r * count + i, mask=mask, other=0.0)
        place = tl.load(table + r * count + i, mask=mask, other=0) - first
        for p in tl.static_range(NUM_PARTS):
            inside = (place >= starts[p]) & (place < starts[p + 1]) & (sign != 0.0)
            total += sign * tl.load(parts[p] + (place - starts[p]), mask=inside, other=0.0)
    tl.store(out + i, total, mask=mask)


def look_up(parts: Sequence[Tensor], table: Tensor, signs: Tensor, first: int) -> Tensor:
    """Signed sums of entries.

    Parameters
    ----------
    parts
        The entries, each part ``(n,)``; they are counted through.
    table, signs
        ``(R, N)``: the places of the R entries that are added up, and their signs; where a sign
        is zero the place counts for nothing.
    first
        Number of the first entry.

    Returns
    -------
    ``(N,)``.
    """
    rows, count = table.shape
    like = parts[0]
    out = torch.empty(count, device=like.device, dtype=like.dtype)
    if count:
        starts = (0, *accumulate(part.numel() for part in parts))
        _placement_kernel[(ceil_div(count, _BLOCK),)](
            tuple(parts), starts, table, signs, out, count, first,
            NUM_PARTS=len(parts), ROWS=rows, BLOCK=_BLOCK,
        )  # fmt: skip
    return out


__all__ = ["look_up"]
