"""Nonlinear functions by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": partial(F.gelu, approximate="tanh"),
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
