"""States for the checks of kernels on CUDA, wherever those run, and how they are compared."""

from __future__ import annotations

import torch

from lgatr.layout import Sectors

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MISSING = {"reason": "Triton is not installed: pip install triton", "exc_type": ImportError}

# Candidates of the kernels of linear maps: one of ours, and the products of the library.
FUSED_LINEAR = ({"BLOCK_T": 32, "BLOCK_O": 16, "num_warps": 4},)
BY_LIBRARY = ({"BLOCK_T": 0},)


def state(tokens, channels, scalars=0, size=1.0, dtype=torch.float32):
    shapes = (
        (tokens, 2 * channels + scalars),
        (4, tokens, 2 * channels),
        (3, tokens, 2 * channels),
    )
    return Sectors(*((size * torch.randn(s)).to(DEVICE, dtype) for s in shapes))


def exact(x):
    return Sectors(*(None if part is None else part.double().cpu() for part in x))


def agree(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double().cpu(), b, rtol=tolerance, atol=tolerance)
