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

_PAIRS = {"gelu_lgatr1": ("gelu", "gelu_exact")}


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


def get_nonlinearities(label: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The functions called ``label``, of gates of multivectors and of auxiliary scalars.

    ``gelu_lgatr1`` is a pair of two different ones.

    Raises
    ------
    ValueError
        If there are no such functions.
    """
    if label not in {*NONLINEARITIES, *_PAIRS}:
        known = ", ".join((*NONLINEARITIES, *_PAIRS))
        raise ValueError(f"nonlinearity must be one of {known}, not {label!r}")
    gate, of_scalars = _PAIRS.get(label, (label, label))
    return NONLINEARITIES[gate], NONLINEARITIES[of_scalars]
