"""Values of any kind in the middle of an error message: short, and on one line."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LONGEST = 60


def described(value: Any) -> str:
    """What was given, in at most 60 characters or so."""
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, list, tuple)):
        try:
            text = " ".join(repr(value).split())
        except Exception:
            return type(value).__name__
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{type(value).__name__}"


def _tensor(x: Tensor) -> str:
    kind = "nested" if x.is_nested else "" if x.layout is torch.strided else f"{x.layout}"
    kind = kind.removeprefix("torch.").replace("_", " ")
    shape = "" if x.is_nested else f" of shape {tuple(x.shape)}"
    where = "" if x.device.type == "cpu" else f" on {x.device.type}"
    return f"a {kind} {x.dtype} tensor{shape}{where}".replace("  ", " ")
