"""Devices as users name them."""

from __future__ import annotations

from typing import Any

import torch


def checked_device(device: Any) -> torch.device:
    """The device of that name.

    Raises
    ------
    TypeError
        If this is no name of a device.
    ValueError
        If torch knows no such device, or this machine has none.
    """
    if isinstance(device, bool) or not isinstance(device, (str, int, torch.device)):
        raise TypeError(f'device is a name such as "cpu" or "cuda", not {type(device).__name__}')
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"no device {device!r} here ({reason})") from error
    return found
