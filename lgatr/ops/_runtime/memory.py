"""Where a tensor lies in memory, once it was checked to lie there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def address_of(x: Any, dtype: torch.dtype) -> int:
    """Where a tensor begins, which must be of this format, on the CPU, and as its memory says."""
    if not isinstance(x, Tensor):
        raise TypeError(f"is {type(x).__name__}, and a tensor is wanted")
    if x.dtype is not dtype or not x.is_cpu:
        raise ValueError(f"is {x.dtype} on {x.device}, and {dtype} on cpu is wanted")
    if x.is_neg():
        raise ValueError("is a lazily negated view; call resolve_neg() on it")
    try:
        address = x.data_ptr()
    except RuntimeError:  # sparse ones, and those inside of torch.func
        raise ValueError(f"has no memory of its own: it is {x.layout}, or a wrapper") from None
    if address == 0 and x.numel() > 0:
        raise ValueError("has no memory: it was freed, or stands for another tensor")
    return address


def wrong_shape(x: Tensor, want: tuple[int, ...]) -> ValueError:
    """The error for a tensor that should have another shape."""
    return ValueError(f"has shape {tuple(x.shape)}, and {want} is wanted")


def row_strides(x: Tensor, want: tuple[int, ...], written: bool) -> tuple[int, ...]:
    """Strides of a tensor of this shape whose last dimension must lie side by side.

    Places that are written must not overlap: threads would write them at once.
    """
    if x.shape != want:
        raise wrong_shape(x, want)
    strides = x.stride()
    if strides[-1] != 1 and want[-1] > 1:
        raise ValueError(f"has strides {strides}, and the last must be 1")
    if written and not x.is_contiguous():
        reach = 1
        for stride, size in sorted(zip(strides, want, strict=True)):
            if size == 1:
                continue
            if stride < reach:
                raise ValueError(f"has strides {strides}, and would be written on top of itself")
            reach += stride * (size - 1)
    return strides
