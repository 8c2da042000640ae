"""Shapes of queries, keys and values, checked once before any backend sees them.

Legend: T query tokens, U key tokens, H heads, K key-value heads (H or a divisor), D head width,
E width of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lgatr.utils.described import described
from lgatr.utils.inputs import FLOATS

FOR_XFORMERS = "for the shapes of xFormers there is lgatr.attention.memory_efficient_attention"


class Layout(NamedTuple):
    """Sizes that a mask or a score modification has to fit."""

    queries: Sequence[int]
    """Queries of each event."""
    keys: Sequence[int]
    """Keys of each event."""
    heads: int
    batch: tuple[int, ...] | None = None
    """Leading dimensions of a dense batch; None for packed ones."""


def _told(**tensors: Tensor | torch.Size) -> str:
    shapes = {n: x.shape if isinstance(x, Tensor) else x for n, x in tensors.items()}
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())


def check_shapes(q: torch.Size, k: torch.Size, v: torch.Size, packed: bool) -> None:
    """Raise ``ValueError`` unless shapes are those of attention.

    Parameters
    ----------
    q
        ``(T, H, D)`` for packed batches, ``(..., T, H, D)`` for dense ones.
    k
        Likewise ``(U, K, D)``.
    v
        Likewise ``(U, K, E)``.
    packed
        Whether the batch is packed.
    """

    def told() -> str:
        return _told(q=q, k=k, v=v)

    if packed and not len(q) == len(k) == len(v) == 3:
        raise ValueError(
            f"packed attention takes (tokens, heads, width), not {told()}; {FOR_XFORMERS}"
        )
    if min(len(q), len(k), len(v)) < 3:
        raise ValueError(
            f"attention takes (..., items, heads, width), not {told()}; {FOR_XFORMERS}"
        )
    if k[:-1] != v[:-1]:
        raise ValueError(f"keys and values differ in more than their width: {told()}")
    if q[-1] != k[-1]:
        raise ValueError(f"queries and keys have different widths: {told()}")
    if not q[-2] or not q[-1]:
        raise ValueError(f"attention takes at least one head, at least one number wide: {told()}")
    if not packed and q[:-3] != k[:-3]:
        raise ValueError(f"queries and keys come from different batches: {told()}; {FOR_XFORMERS}")
    if k[-2] < 1 or q[-2] % k[-2]:
        raise ValueError(
            f"{q[-2]} heads of queries cannot share {k[-2]} heads of keys evenly; the number of "
            f"key heads must divide that of query heads ({told()}; {FOR_XFORMERS})"
        )


def check_tensors(*values: Any) -> None:
    """Raise ``TypeError`` unless all are tensors, ``ValueError`` unless dense and with values."""
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"attention takes tensors, not {type(value).__name__}; see torch.as_tensor"
            )
        dense = value.layout is torch.strided and not (value.is_nested or value.is_quantized)
        if not dense or value.device.type == "meta":
            raise ValueError(f"attention takes dense tensors with values, not {described(value)}")


def check_output_format(dtype: Any) -> None:
    """Raise ``ValueError`` unless ``dtype`` is a floating-point format."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"output_dtype is a format such as torch.float32, not {described(dtype)}")


def check_formats(q: Tensor, k: Tensor, v: Tensor, exact: bool) -> None:
    """Raise ``ValueError`` unless three tensors lie on one device, and have one format.

    Parameters
    ----------
    q, k, v
        The tensors.
    exact
        Whether their formats must agree; not if they are converted.
    """
    check_tensors(q, k, v)
    if not q.device == k.device == v.device:
        raise ValueError(
            f"queries, keys and values lie on {q.device}, {k.device} and {v.device}; move them to "
            "one device"
        )
    formats = [str(x.dtype).removeprefix("torch.") for x in (q, k, v)]
    if exact and len(set(formats)) > 1:
        raise ValueError(
            f"queries, keys and values are {', '.join(formats)}; convert them to one format"
        )
    for x, name in zip((q, k, v), formats, strict=True):
        if x.dtype not in FLOATS:
            raise ValueError(f"attention takes floating-point numbers, not {name}")
