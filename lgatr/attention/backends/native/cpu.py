"""Packed attention on CPUs in one call, by kernels in C++ (``attention.cpp``).

Legend: T query tokens, U key tokens, B events, H heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from lgatr.attention.backends.native.layout import places_of_gradients
from lgatr.ops._runtime.arguments import (
    FLAG,
    Argument,
    Array,
    Heads,
    Real,
    Size,
    given,
    maybe,
    out,
    sizes,
)
from lgatr.ops._runtime.choice import CPP, Operation, Passes
from lgatr.ops._runtime.cpu import kernel
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors, with_dense_rows

_OFFSETS: dict[str, Argument] = {
    "queries": Array(("B + 1",), dtype=torch.int64),
    "keys": Array(("B + 1",), dtype=torch.int64),
}
_SIZES: dict[str, Argument] = {
    **_OFFSETS,
    **sizes("T U B H"),
    "D": Size(1),
    "scale": Real(positive=True),
    "causal": FLAG,
}
_ATTENTION = kernel("attention", {
    "q": Heads("T"), "k": Heads("U"), "v": Heads("U"), "out": Heads("T", written=True),
    "lse": out("T", "H"), **_SIZES,
}, fallible=True)  # fmt: skip
_GRADIENTS = kernel("attention_gradients", {
    "q": Heads("T"), "k": Heads("U"), "v": Heads("U"), "out": Heads("T"), "grad": Heads("T"),
    "lse": given("T", "H"), "of_q": Heads("T", written=True), "of_k": Heads("U", written=True),
    "of_v": Heads("U", written=True), **_SIZES,
}, fallible=True)  # fmt: skip
_PATTERN: dict[str, Argument] = {
    **_OFFSETS,
    "first": Array(("T",), dtype=torch.int64, optional=True),
    "last": Array(("T",), dtype=torch.int64, optional=True),
    "table": Array(("M", "P"), dtype=torch.uint8, optional=True),
    "tiles": Array(("M", "R"), dtype=torch.uint8, optional=True),
    "slopes": maybe("H"),
    **sizes("T U B H"),
    "D": Size(1),
    **sizes("M P R"),
    "scale": Real(),
    "cap": Real(),
}
_MASKED = kernel("masked_attention", {
    "q": Heads("T"), "k": Heads("U"), "v": Heads("U"), "out": Heads("T", written=True),
    "lse": out("T", "H"), **_PATTERN,
}, fallible=True)  # fmt: skip
_MASKED_GRADIENTS = kernel("masked_attention_gradients", {
    "q": Heads("T"), "k": Heads("U"), "v": Heads("U"), "out": Heads("T"), "grad": Heads("T"),
    "lse": given("T", "H"), "of_q": Heads("T", written=True), "of_k": Heads("U", written=True),
    "of_v": Heads("U", written=True), **_PATTERN,
}, fallible=True)  # fmt: skip
attention_tiles = kernel("attention_tiles", {
    "table": Array(("M", "P"), dtype=torch.uint8),
    "tiles": Array(("M", "R"), dtype=torch.uint8, written=True),
    **_OFFSETS, **sizes("T U B M P R"),
}, fallible=True)  # fmt: skip

MAX_KEYS = 2048
"""Longest event in keys: the scores of a block of queries must fit the processor's caches."""


def offsets(lengths: tuple[int, ...]) -> Tensor:
    """Where events of these lengths begin, and the last one ends: ``(B + 1,)``."""
    with torch.inference_mode(False):  # the stage may serve a training later
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int64, device="cpu")


@dataclass(frozen=True, eq=False)
class EventsStage(Stage):
    """Attention inside events; inputs q ``(T, H, D)``, k and v ``(U, H, D)``.

    Parameters
    ----------
    formula
        The plain formula.
    queries, keys
        Lengths of the events.
    causal
        Whether query i of an event sees its keys up to i only.
    scale
        Of the scores; None means :math:`1 / \\sqrt{D}`.
    """

    formula: Callable[..., Tensor]
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    causal: bool
    scale: float | None
    operation = Operation(__package__, "events", CPP, otherwise="attention")
    needs_outputs = True

    def accepts(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Whether the kernels are there, and take tensors of these shapes and formats."""
        return (
            q.shape[1:] == k.shape[1:] == v.shape[1:]
            and q.dtype == k.dtype == v.dtype
            and self.passes(q) is not None
        )

    @cached_property
    def _layout(self) -> tuple[Tensor, Tensor, int, int, int]:
        """Offsets of queries and of keys; numbers of queries, of keys, of events."""
        queries = offsets(self.queries)
        keys = queries if self.keys == self.queries else offsets(self.keys)
        return queries, keys, int(queries[-1]), int(keys[-1]), len(self.queries)

    read_again: ClassVar[tuple[Tensor, ...]] = ()

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return (self.formula(*inputs),)

    def problem(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Any, ...]:
        """What the kernels are told besides tensors of queries, keys and values."""
        _, heads, width = q.shape
        queries, keys, q_tokens, k_tokens, events = self._layout
        if (q_tokens, k_tokens, k_tokens) != (len(q), len(k), len(v)):
            raise ValueError(
                f"events have {q_tokens} queries and {k_tokens} keys,"
                f" and there are {len(q)} queries, {len(k)} keys and {len(v)} values"
            )
        scale = 1.0 / math.sqrt(max(width, 1)) if self.scale is None else float(self.scale)
        return queries, keys, q_tokens, k_tokens, events, heads, width, scale, self.causal


class Problem(Protocol):
    """A stage of these kernels: :class:`EventsStage`, or that with masks in :mod:`.masked`."""

    def problem(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Any, ...]:
        """What the kernels are told besides tensors of queries, keys and values."""

    @property
    def read_again(self) -> tuple[Tensor, ...]:
        """The user's tensors in it, which may not change before the backward pass."""


def _passes(attention: Callable[..., None], gradients: Callable[..., None]) -> Passes:
    """Forward and backward pass by two kernels; the log-sum-exp is kept between them."""

    def forward(settings: Problem, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        q, k, v = with_dense_rows(inputs)
        problem = settings.problem(q, k, v)
        out, lse = q.new_empty(q.shape), q.new_empty(q.shape[:2])
        attention(q, q, k, v, out, lse, *problem)
        return (out,), (lse, *settings.read_again)

    def backward(
        settings: Problem, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        q, k, v, out, grad = with_dense_rows((*inputs, *outputs, *grads))
        places = places_of_gradients(q, k, v)
        problem = settings.problem(q, k, v)
        gradients(q, q, k, v, out, grad, kept[0], *places, *problem)
        return places

    return Passes(forward, backward)


EVENTS = _passes(_ATTENTION, _GRADIENTS)
MASKED_EVENTS = _passes(_MASKED, _MASKED_GRADIENTS)
