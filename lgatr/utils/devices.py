"""Devices as users name them: torch's several errors become one sentence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_FOUND = {torch.device("cpu")}


def checked_device(device: Any) -> torch.device:
    """The device of that name.

    Raises
    ------
    TypeError
        If this is no name of a device.
    ValueError
        If torch knows no such device, or this machine has none.
    """
    if torch.compiler.is_compiling() or (isinstance(device, torch.device) and device in _FOUND):
        return torch.device(device)
    _check_kind(device)
    try:
        found = torch.device(device)
        # Only a tensor shows that the device is there.
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"no device {str(device)[:60]!r} here ({reason[:200]})") from error
    _FOUND.add(found)
    return found


def on_device(x: Tensor, device: Any, non_blocking: bool = False) -> Tensor:
    """``x`` on ``device``.

    Raises
    ------
    TypeError, ValueError
        See :func:`checked_device`.
    """
    # Not checked, .to() would take other kinds for a format or for another tensor.
    return x.to(checked_device(device), non_blocking=non_blocking)


def _check_kind(device: Any) -> None:
    if isinstance(device, bool) or not isinstance(device, (str, int, torch.device)):
        raise TypeError(f'device is a name such as "cpu" or "cuda", not {type(device).__name__}')
