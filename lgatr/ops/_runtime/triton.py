"""What the Triton kernels share, and whether they run for a tensor."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from lgatr.layout import Sectors

FUSED = {"enable_fp_fusion": True}
"""Option of the kernels: a b + c in one instruction, whatever Triton's default."""


@cache
def _installed() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def has_triton_kernels(x: Tensor) -> bool:
    """Whether ``x`` lies where Triton compiles for, in a format that the kernels compute in.

    Builds of torch for CUDA bring Triton along.
    """
    return (
        x.is_cuda
        and x.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and _installed()
    )


def strides(*states: Sectors) -> list[int]:
    """Of each state, as the kernels take them: z by token, v by row and token, b likewise."""
    found = []
    for x in states:
        if x.z.stride(-1) != 1 or x.v.stride(-1) != 1 or x.b.stride(-1) != 1:
            raise ValueError("channels must lie side by side")
        found += [x.z.stride(0), x.v.stride(0), x.v.stride(1), x.b.stride(0), x.b.stride(1)]
    return found
