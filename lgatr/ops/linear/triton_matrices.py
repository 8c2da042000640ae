"""Parameters into matrices on CUDA: one launch forward, one backward.

See :class:`lgatr.ops.linear.placement.Placement`. The tables are small, so what costs is the number
of launches: looking up, signs, zeros and sums are four with torch's operations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256


@triton.jit
def _placement_kernel(
    entries, table, signs, out, count, first,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    place = tl.load(table + i, mask=mask, other=0) - first
    sign = tl.load(signs + i, mask=mask, other=0.0)
    total = sign * tl.load(entries + place, mask=sign != 0.0, other=0.0)
    for r in tl.static_range(1, ROWS):
        place = tl.load(table + r * count + i, mask=mask, other=0) - first
        sign = tl.load(signs + r * count + i, mask=mask, other=0.0)
        total += sign * tl.load(entries + place, mask=sign != 0.0, other=0.0)
    tl.store(out + i, total, mask=mask)


def look_up(entries: Tensor, table: Tensor, signs: Tensor, first: int) -> Tensor:
    """Signed sums of entries.

    Parameters
    ----------
    entries
        ``(E,)``.
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
    out = torch.empty(count, device=entries.device, dtype=entries.dtype)
    if count:
        _placement_kernel[(triton.cdiv(count, _BLOCK),)](
            entries, table, signs, out, count, first, ROWS=rows, BLOCK=_BLOCK
        )
    return out


__all__ = ["look_up"]
