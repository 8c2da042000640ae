"""Buffers for intermediate results that live as long as the thread.

A fresh buffer of some hundred kilobytes is fresh memory of the operating system, which hands it
out page by page and filled with zeros; that can cost more than the arithmetic in it. Kernels
that work on pieces of bounded size keep their intermediate results here instead.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

_local = threading.local()


def scratch(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A buffer with arbitrary content, valid until the same name is asked for again.

    Parameters
    ----------
    name
        Whose buffer; no two in use at a time may have one name.
    shape
        Of the result.
    like
        Decides format and device. Only the CPU's buffers are kept: other devices have allocators
        that reuse memory.
    """
    if like.device.type != "cpu" or torch.compiler.is_compiling():
        return like.new_empty(shape)
    buffers: dict[tuple[str, torch.dtype], Tensor] = _local.__dict__.setdefault("buffers", {})
    size, key = math.prod(shape), (name, like.dtype)
    buffer = buffers.get(key)
    if buffer is None or buffer.numel() < size:
        with torch.inference_mode(False):
            buffer = buffers[key] = torch.empty(size, dtype=like.dtype)
    return buffer[:size].view(shape)
