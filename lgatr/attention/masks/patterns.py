"""Masks by place: prefixes, global tokens, windows side by side, neighbourhoods."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.attention.masks.base import Mask
from lgatr.attention.positions import Positions


@dataclass(frozen=True, eq=False)
class PrefixLM(Mask):
    """Everybody sees the first ``prefix`` tokens; the rest is causal (arXiv:1910.10683).

    Parameters
    ----------
    prefix
        Number of tokens, or one number for each event ``(B,)``.
    """

    prefix: int | Tensor
    feature = "prefix_lm"

    def allowed(self, at: Positions) -> Tensor:
        """See :meth:`Mask.allowed`."""
        prefix = self.prefix[at.event] if isinstance(self.prefix, Tensor) else self.prefix
        return (at.k < prefix) | (at.k <= at.q)

    def check(self, events: int, queries: int, keys: int) -> None:
        """One prefix for each event."""
        if isinstance(self.prefix, Tensor) and self.prefix.shape != (events,):
            raise ValueError(
                f"PrefixLM has prefixes of shape {tuple(self.prefix.shape)}, "
                f"but there are {events} events"
            )


@dataclass(frozen=True)
class GlobalTokens(Mask):
    """The first ``count`` tokens of an event see, and are seen by, all of it.

    ``SlidingWindow(w) | GlobalTokens(n)`` is the pattern of Longformer (arXiv:2004.05150).

    Parameters
    ----------
    count
        Number of tokens.
    """

    count: int
    feature = "global_tokens"

    def allowed(self, at: Positions) -> Tensor:
        """See :meth:`Mask.allowed`."""
        return (at.q < self.count) | (at.k < self.count)


@dataclass(frozen=True)
class ShiftedWindows(Mask):
    """Windows side by side: attention inside each (Swin, arXiv:2103.14030).

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
        if self.size < 1 or not 0 <= self.shift < self.size:
            raise ValueError(
                f"windows need size >= 1 and 0 <= shift < size, not ({self.size}, {self.shift})"
            )

    def _window(self, position: Tensor) -> Tensor:
        return torch.div(position + self.shift, self.size, rounding_mode="floor")

    def allowed(self, at: Positions) -> Tensor:
        """See :meth:`Mask.allowed`."""
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
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"a neighbourhood has an odd size, not {self.size}")

    def allowed(self, at: Positions) -> Tensor:
        """See :meth:`Mask.allowed`."""
        last = torch.as_tensor(at.k_length - self.size, device=at.q.device).clamp(min=0)
        start = torch.minimum((at.q - self.size // 2).clamp(min=0), last)
        return (at.k >= start) & (at.k < start + self.size)

    def key_range(self, q: range, lengths: tuple[int, int], first_key: int) -> range:
        """From the first query's window to the last one's."""
        last = max(lengths[1] - self.size, 0)
        first, final = (min(max(p - self.size // 2, 0), last) for p in (q.start, q.stop - 1))
        return range(first, min(final + self.size, lengths[1]))
