"""What the Triton kernels share."""

from __future__ import annotations

import triton

from lgatr.layout import Sectors

FUSED = {"enable_fp_fusion": True}
"""Option of the kernels: a b + c in one instruction, whatever Triton's default."""


def strides(*states: Sectors) -> list[int]:
    """Of each state, as the kernels take them: z by token, v by row and token, b likewise."""
    found = []
    for x in states:
        # A single channel may have any stride, even of tensors that count as contiguous.
        if any(part.stride(-1) != 1 and part.shape[-1] > 1 for part in x):
            raise ValueError("channels must lie side by side")
        found += [x.z.stride(0), x.v.stride(0), x.v.stride(1), x.b.stride(0), x.b.stride(1)]
    return found


def block(count: int, most: int = 1 << 30) -> int:
    """Lanes for so many channels: a power of two, at least one."""
    return min(triton.next_power_of_2(max(count, 1)), most)


def rows_of(numbers: int, width: int) -> int:
    """Rows of a tile of about so many numbers, a power of two, ``width`` of them in a row."""
    return max(numbers // block(width), 1)
