"""What the Triton kernels share."""

from __future__ import annotations

from lgatr.layout import Sectors

FUSED = {"enable_fp_fusion": True}
"""Option of the kernels: a b + c in one instruction, whatever Triton's default."""


def ceil_div(count: int, size: int) -> int:
    """Blocks of a size for a count; Triton's own function takes microseconds."""
    return -(-count // size)


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below ``count``."""
    return 1 << max(count - 1, 0).bit_length()


def strides(*states: Sectors) -> list[int]:
    """Of each state, as the kernels take them: z by token, v by row and token, b likewise."""
    found: list[int] = []
    for z, v, b in states:
        of_z, of_v, of_b = z.stride(), v.stride(), b.stride()
        if not of_z[-1] == of_v[-1] == of_b[-1] == 1:
            # A single channel may have any stride, even of tensors that count as contiguous.
            if any(part.stride(-1) != 1 and part.shape[-1] > 1 for part in (z, v, b)):
                raise ValueError("channels must lie side by side")
        found += (of_z[0], of_v[0], of_v[1], of_b[0], of_b[1])
    return found


def block(count: int, most: int = 1 << 30) -> int:
    """Lanes for so many channels: a power of two, at least one."""
    return min(power_of_two(count), most)


def rows_of(numbers: int, width: int) -> int:
    """Rows of a tile of about so many numbers, a power of two, ``width`` of them in a row."""
    return max(numbers // block(width), 1)
