"""Number formats to compare: float64, float32, TF32 products, autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from lgatr import naive_amp


class Format(NamedTuple):
    """How numbers are kept."""

    dtype: torch.dtype
    autocast: torch.dtype | None = None
    naive: bool = False
    tf32: bool = False


FORMATS = {
    "float64": Format(torch.float64),
    "float32": Format(torch.float32),
    "TF32": Format(torch.float32, tf32=True),
    "bf16 autocast": Format(torch.float32, torch.bfloat16),
    "fp16 autocast": Format(torch.float32, torch.float16),
    "bf16 autocast, naive_amp": Format(torch.float32, torch.bfloat16, naive=True),
    "fp16 autocast, naive_amp": Format(torch.float32, torch.float16, naive=True),
}


@contextmanager
def matrix_products(format: Format) -> Iterator[None]:
    """TF32 as the format says, for the block alone: what a backward pass needs of it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = format.tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def number_format(format: Format, device: str) -> Iterator[None]:
    """Autocast, naive mode and TF32 as the format says, for the block alone."""
    with (
        matrix_products(format),
        torch.autocast(device, format.autocast or torch.bfloat16, bool(format.autocast)),
        naive_amp(format.naive),
    ):
        yield
