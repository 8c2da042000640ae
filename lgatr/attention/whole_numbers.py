"""Whole numbers as users give them: read once, with one sentence for what is none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def whole_number(value: Any, name: str, least: int) -> int:
    """``value`` as a Python number.

    Raises
    ------
    ValueError
        If it is not a whole number, or smaller than ``least``.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name} is a whole number, not {value!r}")
    try:
        number = value.__index__()
    except TypeError:
        raise ValueError(f"{name} is a whole number, not {value!r}") from None
    if number < least:
        raise ValueError(f"{name} is at least {least}, not {number}")
    return int(number)


def whole_numbers(values: Iterable[Any] | Tensor, name: str, least: int) -> tuple[int, ...]:
    """A tuple of Python numbers.

    Raises
    ------
    ValueError
        If they are no sequence, or one is not a whole number, or smaller than ``least``.
    """
    values = values.tolist() if isinstance(values, Tensor) else values
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{name} is a sequence of whole numbers, not {values!r}")
    return tuple(whole_number(value, f"each of {name}", least) for value in values)


def check_whole_table(table: Any, name: str, dims: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``table`` is a tensor of whole numbers with so many dimensions.

    Numbers below zero are found where no device need be asked for them.
    """
    if not isinstance(table, Tensor):
        raise ValueError(f"{name} is a tensor, not {type(table).__name__}")
    if table.is_floating_point() or table.is_complex() or table.dtype == torch.bool:
        raise ValueError(f"{name} has whole numbers, not {str(table.dtype).removeprefix('torch.')}")
    if table.dim() not in dims:
        wanted = " or ".join(map(str, dims))
        raise ValueError(f"{name} has {wanted} dimensions, not shape {tuple(table.shape)}")
    if table.device.type == "cpu" and table.numel() and int(table.min()) < 0:
        raise ValueError(f"{name} has numbers of at least 0, not {int(table.min())}")
