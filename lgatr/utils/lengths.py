"""Checks of what users say about the lengths of events.

Legend: B events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from operator import index
from typing import Any

import torch
from torch import Tensor

from lgatr.utils.described import described
from lgatr.utils.devices import on_device

MAX_TOKENS = torch.iinfo(torch.int32).max
WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
"""Formats of whole numbers that index tensors."""


def checked_lengths(lengths: Iterable[Any] | Tensor) -> tuple[int, ...]:
    """Lengths as Python numbers; ``TypeError`` unless whole, ``ValueError`` unless possible."""
    if isinstance(lengths, Tensor):
        try:
            lengths = whole_numbers("lengths", lengths, "(events,)").tolist()
        except (RuntimeError, NotImplementedError) as error:
            raise ValueError(f"lengths have no values to read: {described(lengths)}") from error
    if isinstance(lengths, (str, bytes, Mapping)) or not isinstance(lengths, Iterable):
        raise TypeError(
            f"lengths must be whole numbers, one for each event; got {described(lengths)}"
        )
    lengths = tuple(lengths)
    if not all(type(n) is int for n in lengths):
        lengths = tuple(_length(n) for n in lengths)
    if not lengths:
        raise ValueError("a packing needs at least one event")
    if min(lengths) < 1:
        raise ValueError(
            f"event {lengths.index(min(lengths))} has {described(min(lengths))} tokens; "
            "leave empty events out of the batch"
        )
    total = sum(lengths)
    if total > MAX_TOKENS:
        raise ValueError(f"{described(total)} tokens exceed 2^31 - 1; use smaller batches")
    return lengths


def whole_number(name: str, n: Any) -> int:
    """``n`` as a Python number; ``TypeError`` if it is none."""
    # index() takes integers of numpy and torch, but also True, which is a mask given by mistake.
    try:
        if isinstance(n, bool) or getattr(n, "dtype", None) in (torch.bool, "bool"):
            raise TypeError
        return index(n)
    except (TypeError, RuntimeError, NotImplementedError):
        raise TypeError(f"{name} must be a whole number, not {described(n)}") from None


def _length(n: Any) -> int:
    try:
        return whole_number("each of lengths", n)
    except TypeError:
        raise TypeError(
            f"lengths must be whole numbers, not {described(n)} ({type(n).__name__}); a padded "
            "batch with its mask is Packing.from_mask(mask)"
        ) from None


def whole_numbers(name: str, x: Tensor, shape: str) -> Tensor:
    """``x``, if it is a one-dimensional tensor of whole numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor {shape} of whole numbers, not {type(x).__name__}")
    if x.is_nested or x.dim() != 1 or x.dtype not in WHOLE or x.layout is not torch.strided:
        raise ValueError(f"{name} must be whole numbers of shape {shape}, not {described(x)}")
    return x


def is_readable(ptr: Tensor) -> bool:
    """Whether offsets can be looked at without waiting for a GPU or ending a trace."""
    return not torch.compiler.is_compiling() and type(ptr) is Tensor and ptr.device.type == "cpu"


def check_token_count(described: int, tokens: int) -> None:
    """Raise ``ValueError`` unless a packing describes as many tokens as there are."""
    if described != tokens:
        raise ValueError(
            f"the packing describes {described} tokens, but there are {tokens}; "
            "give packed events as (tokens, channels, ...)"
        )


def checked_offsets(ptr: Tensor) -> tuple[int, ...]:
    """Lengths of the events with offsets ``ptr``, which are waited for.

    Raises
    ------
    ValueError
        If the offsets do not start at 0, or do not rise.
    """
    try:
        offsets = ptr.tolist()
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"the offsets of events have no values to read here ({ptr.device.type} tensor, or "
            "inside a transformation of torch.func); build the packing from lengths"
        ) from error
    if offsets[0] != 0:
        raise ValueError(f"offsets must start at 0, not at {offsets[0]}: the first token is 0")
    return checked_lengths([b - a for a, b in zip(offsets, offsets[1:], strict=False)])


def offsets_of_lengths(lengths: tuple[int, ...], device: torch.device | str) -> Tensor:
    """Offsets ``(B + 1,)`` of events with these lengths."""
    ptr = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device="cpu")
    return on_device(ptr, device, non_blocking=True)
