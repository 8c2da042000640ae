"""Keys and values that do not lie end to end: padded, with gaps, or in pages of a cache.

Legend: B events, U places for key tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from lgatr.attention.packing import Packing


class KeyStorage(ABC):
    """Where the keys of each event lie in a larger storage. Stands in for ``kv_packing``.

    Positions and tokens in masks count the live keys alone, as if they lay end to end.
    """

    lengths: tuple[int, ...]
    """Number of live keys of each event."""

    @property
    def num_events(self) -> int:
        """Number of events B."""
        return len(self.lengths)

    @property
    @abstractmethod
    def num_places(self) -> int | None:
        """Number of places U that keys and values must have; None if any larger number will do."""

    @abstractmethod
    def index(self) -> Tensor:
        """Places of the live keys, event by event: int64 ``(sum(lengths),)``."""

    def compact(self) -> Packing:
        """The live keys as if they lay end to end."""
        return Packing.from_lengths(self.lengths)

    def _check(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError("every event needs at least one key; leave empty events out")


def _ranges(starts: list[int], lengths: tuple[int, ...]) -> Tensor:
    counts = torch.tensor(lengths)
    before = torch.tensor([0, *accumulate(lengths)][:-1])
    shift = (torch.tensor(starts) - before).repeat_interleave(counts)
    return torch.arange(sum(lengths)) + shift


@dataclass(frozen=True)
class PaddedKeys(KeyStorage):
    """Event i owns places ``i * padding`` on; the first ``lengths[i]`` of them are live.

    Parameters
    ----------
    padding
        Places for each event.
    lengths
        Live keys of each event.
    """

    padding: int
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(int(n) for n in self.lengths))
        self._check()
        if max(self.lengths) > self.padding:
            raise ValueError(
                f"an event has {max(self.lengths)} keys, but only {self.padding} places"
            )

    @property
    def num_places(self) -> int:
        """See :class:`KeyStorage`."""
        return self.padding * len(self.lengths)

    def index(self) -> Tensor:
        """See :class:`KeyStorage`."""
        return _ranges([i * self.padding for i in range(len(self.lengths))], self.lengths)


@dataclass(frozen=True)
class GappyKeys(KeyStorage):
    """Event i owns ``lengths[i]`` places from ``starts[i]`` on.

    Parameters
    ----------
    starts
        First place of each event, rising.
    lengths
        Live keys of each event.
    places
        Size of the storage; None means that it ends with the last key.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    places: int | None = None

    def __post_init__(self) -> None:
        for name in ("starts", "lengths"):
            object.__setattr__(self, name, tuple(int(n) for n in getattr(self, name)))
        self._check()
        if len(self.starts) != len(self.lengths) or min(self.starts) < 0:
            raise ValueError("GappyKeys needs one start, at least 0, for each length")
        end = max(s + n for s, n in zip(self.starts, self.lengths, strict=True))
        if self.places is None:
            object.__setattr__(self, "places", end)
        elif self.places < end:
            raise ValueError(
                f"an event's keys end at {end}, after the last of {self.places} places"
            )

    @property
    def num_places(self) -> int:
        """See :class:`KeyStorage`."""
        assert self.places is not None
        return self.places

    def index(self) -> Tensor:
        """See :class:`KeyStorage`."""
        return _ranges(list(self.starts), self.lengths)


@dataclass(frozen=True, eq=False)
class PagedKeys(KeyStorage):
    """Event i's keys fill the pages ``tables[i, 0]``, ``tables[i, 1]`` … of a storage in order.

    Parameters
    ----------
    tables
        ``(B, pages)`` int32; entries past an event's last page are not read.
    page_size
        Places in a page.
    lengths
        Live keys of each event.
    """

    tables: Tensor
    page_size: int
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(int(n) for n in self.lengths))
        self._check()
        if self.tables.dim() != 2 or len(self.tables) != len(self.lengths):
            raise ValueError(
                f"block tables are (events, pages) for {len(self.lengths)} events, not "
                f"{tuple(self.tables.shape)}"
            )
        if max(self.lengths) > self.tables.shape[1] * self.page_size:
            raise ValueError(
                f"an event has {max(self.lengths)} keys, but its block table ends after "
                f"{self.tables.shape[1] * self.page_size}"
            )

    @property
    def num_places(self) -> None:
        """See :class:`KeyStorage`."""
        return None

    def index(self) -> Tensor:
        """See :class:`KeyStorage`."""
        counts = torch.tensor(self.lengths)
        event = torch.arange(len(counts)).repeat_interleave(counts)
        place = _ranges([0] * len(counts), self.lengths)
        page = self.tables.cpu().long()[event, place // self.page_size]
        return page * self.page_size + place % self.page_size
