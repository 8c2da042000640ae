"""Whether the Triton kernels run for a tensor."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

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
