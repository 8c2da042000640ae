"""Nonlinear functions by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": _gelu,
    "silu": F.silu,
    "gelu_exact": F.gelu,
}


def get_nonlinearity(label: str) -> Callable[[Tensor], Tensor]:
    """The function called ``label``.

    ``gelu`` is the tanh approximation, ``gelu_exact`` the error function.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    if label not in NONLINEARITIES:
        raise ValueError(f"nonlinearity must be one of {', '.join(NONLINEARITIES)}, not {label!r}")
    return NONLINEARITIES[label]
