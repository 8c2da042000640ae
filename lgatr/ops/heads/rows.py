"""What the stages to and from attention heads share: tables, squares, copies.

Legend: T tokens, P parts (queries, keys, values), H heads, N = P H, c and cs multivector and
scalar channels per head, w = 2 c, D = 8 w + cs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS
from lgatr.ops._runtime import cpu as native
from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.stage import Optionals, Tensors
from lgatr.ops._runtime.triton import has_triton_kernels

ROWS = 1 + NUM_VECTORS + NUM_BIVECTORS
VECTORS, BIVECTORS = slice(1, 1 + NUM_VECTORS), slice(1 + NUM_VECTORS, ROWS)


@cache
def collect(groups: int, width: int, value: float, dtype: torch.dtype) -> Tensor:
    """``(N width, N)``: the sum over each group's entries, times ``value``."""
    with torch.inference_mode(False):
        return (value * torch.eye(groups, dtype=dtype, device="cpu")).repeat_interleave(width, 0)


@cache
def spread(
    heads: int, metric: tuple[bool, ...], width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """``(N, N w)``: each group's factor for its entries, with the signs of the inner product.

    One table is for scalars and the first vector row, one for all later rows.
    """
    with torch.inference_mode(False):
        eye = torch.eye(heads * len(metric), dtype=dtype, device="cpu").repeat_interleave(width, 1)
        sign = torch.tensor([-1.0 if part else 1.0 for part in metric], dtype=dtype, device="cpu")
        sign = sign.repeat_interleave(heads)[:, None].expand(-1, width // 2)
        one = torch.ones_like(sign)
        first, later = torch.cat([one, sign], 1), torch.cat([sign, one], 1)
        return eye * first.flatten(), eye * later.flatten()


def signed_squares(v: Tensor, b: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Invariant squares of the vectors ``(T, N w)``, and of the bivectors ``(T, N c)``."""
    squares = v[0] * v[0]
    for row in v[1:]:
        squares.addcmul_(row, row, value=-1)
    pairs = b[0] * b[0]
    for row in b[1:]:
        pairs.addcmul_(row, row)
    pairs = pairs.unflatten(-1, (-1, 2, width // 2))
    return squares, (pairs[..., 1, :] - pairs[..., 0, :]).flatten(1)


def copy_short(source: Tensor, target: Tensor) -> None:
    """Copy ``(T, N, w)`` with a short last dimension: in pieces of 16 bytes where it has those."""
    piece = 16 // source.element_size()
    if source.shape[-1] % piece == 0 and all(
        x.storage_offset() % piece == 0 and x.stride(0) % piece == x.stride(1) % piece == 0
        for x in (source, target)
    ):
        source, target = source.view(torch.complex128), target.view(torch.complex128)
    target.copy_(source)


def joined(parts: Tensors) -> Tensor:
    """P tensors ``(T, H, D)`` as one ``(T, N, D)``: a view where they lie side by side."""
    first = parts[0]
    t, heads, d = first.shape
    n = heads * len(parts)
    strides, storage = (n * d, d, 1), first.untyped_storage().data_ptr()
    if all(
        x.stride() == strides
        and x.untyped_storage().data_ptr() == storage
        and x.storage_offset() == first.storage_offset() + i * heads * d
        for i, x in enumerate(parts)
    ):
        return first.as_strided((t, n, d), strides)
    return torch.stack(parts, dim=1).flatten(1, 2)


def fused_kernels(x: Tensor) -> type[Any] | None:
    """The fused kernels for the device of ``x``, if it has any."""
    if has_triton_kernels(x):
        from lgatr.ops.heads import triton as triton_heads

        return triton_heads.Heads
    return native.Heads if has_native_kernels(x) else None


def floor_factor(epsilon: float, dtype: torch.dtype) -> float:
    """The factor from which on the floor of the norm is reached."""
    return epsilon**-0.5 * (1 - 4 * torch.finfo(dtype).eps)


def present(inputs: Optionals) -> list[Tensor]:
    """Those inputs that are given."""
    return [x for x in inputs if x is not None]
