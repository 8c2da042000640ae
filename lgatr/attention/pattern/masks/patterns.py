"""Masks by position: prefixes, adjacent windows, neighbourhoods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from lgatr.attention.pattern.masks.base import Mask
from lgatr.attention.pattern.number_checks import check_whole_table, whole_number, whole_numbers
from lgatr.attention.pattern.positions import Positions
from lgatr.attention.pattern.shapes import Layout


@dataclass(frozen=True, eq=False)
class PrefixLM(Mask):
    """All queries see the first ``prefix`` tokens; the rest is causal (arXiv:1910.10683).

    Parameters
    ----------
    prefix
        Number of tokens, or one number for each event ``(B,)``.
    """

    prefix: int | Tensor
    feature = "prefix_lm"

    def __post_init__(self) -> None:
        if isinstance(self.prefix, (list, tuple)):
            prefixes = whole_numbers(self.prefix, "prefix of PrefixLM", 0)
            object.__setattr__(
                self, "prefix", torch.tensor(prefixes, dtype=torch.int64, device="cpu")
            )
        if isinstance(self.prefix, Tensor) and self.prefix.dim():
            check_whole_table(self.prefix, "prefix of PrefixLM", (1,))
        else:
            object.__setattr__(self, "prefix", whole_number(self.prefix, "prefix of PrefixLM", 0))

    def allowed(self, at: Positions) -> Tensor:
        per_event = isinstance(self.prefix, Tensor) and self.prefix.dim() == 1
        prefix = cast(Tensor, self.prefix)[at.event] if per_event else self.prefix
        return (at.k < prefix) | (at.k <= at.q)

    def check(self, layout: Layout) -> None:
        """One prefix for each event."""
        if isinstance(self.prefix, Tensor) and len(self.prefix) != len(layout.queries):
            raise ValueError(
                f"PrefixLM has {len(self.prefix)} prefixes, but there are "
                f"{len(layout.queries)} events"
            )


@dataclass(frozen=True)
class ShiftedWindows(Mask):
    """Adjacent windows with attention inside each (Swin, arXiv:2103.14030).

    Parameters
    ----------
    size
        Tokens in a window.
    shift
        By how many tokens the borders are moved; Swin alternates between 0 and ``size // 2``.
    """

    size: int
    shift: int = 0
    feature = "shifted_windows"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", whole_number(self.size, "size of windows", 1))
        object.__setattr__(self, "shift", whole_number(self.shift, "shift of windows", 0))
        if self.shift >= self.size:
            raise ValueError(f"windows of {self.size} cannot be shifted by {self.shift}")

    def _window(self, position: Tensor) -> Tensor:
        return torch.div(position + self.shift, self.size, rounding_mode="floor")

    def allowed(self, at: Positions) -> Tensor:
        return self._window(at.q) == self._window(at.k)

    def key_range(self, q: range, lengths: tuple[int, int], first_key: int) -> range:
        """Whole windows around the queries."""
        start = (q.start + self.shift) // self.size * self.size - self.shift
        stop = ((q.stop - 1 + self.shift) // self.size + 1) * self.size - self.shift
        start = min(max(start, 0), lengths[1])
        return range(start, max(start, min(stop, lengths[1])))


@dataclass(frozen=True)
class Neighbourhood(Mask):
    """The nearest ``size`` keys, also at the ends of an event (NATTEN, arXiv:2204.07143).

    Unlike a sliding window, every query sees equally many keys: at the ends the window stops
    moving. Events shorter than ``size`` are seen whole.

    Parameters
    ----------
    size
        Number of keys, odd.
    """

    size: int
    feature = "neighbourhood"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", whole_number(self.size, "size of a neighbourhood", 1))
        if self.size % 2 == 0:
            raise ValueError(f"a neighbourhood has an odd size, not {self.size}")

    def allowed(self, at: Positions) -> Tensor:
        last = torch.as_tensor(at.k_length - self.size, device=at.q.device).clamp(min=0)
        start = torch.minimum((at.q - self.size // 2).clamp(min=0), last)
        return (at.k >= start) & (at.k < start + self.size)

    def key_range(self, q: range, lengths: tuple[int, int], first_key: int) -> range:
        """From the first query's window to the last one's."""
        last = max(lengths[1] - self.size, 0)
        first, final = (min(max(p - self.size // 2, 0), last) for p in (q.start, q.stop - 1))
        return range(first, min(final + self.size, lengths[1]))


@dataclass(frozen=True, eq=False)
class SomeEvents(Mask):
    """Only some events attend; queries of the others see no key.

    Parameters
    ----------
    alive
        ``(B,)`` boolean.
    """

    alive: Tensor
    feature = "mask_mod"

    def check(self, layout: Layout) -> None:
        """One entry for each event."""
        if self.alive.shape != (len(layout.queries),):
            raise ValueError(f"{len(self.alive)} entries for {len(layout.queries)} events")

    def allowed(self, at: Positions) -> Tensor:
        return self.alive[at.event]
