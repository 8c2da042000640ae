"""Names of lgatr 1.x: torch finds good orders of contraction itself today."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def cached_einsum(equation: str, *operands: Tensor) -> Tensor:
    """:func:`torch.einsum`."""
    return torch.einsum(equation, *operands)


def custom_einsum(equation: str, *operands: Tensor, path: Any = None) -> Tensor:
    """:func:`torch.einsum`, in torch's own order of contraction."""
    return torch.einsum(equation, *operands)
