"""Keys and values that do not lie end to end: padded, with gaps, or in pages of a cache.

Legend: B events, U places for key tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from lgatr.attention.pattern.number_checks import check_whole_table, whole_number, whole_numbers
from lgatr.attention.pattern.packing import Packing
from lgatr.utils.lengths import MAX_TOKENS


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

    @property
    def min_places(self) -> int:
        """Number of places that keys and values have at least."""
        return self.num_places or 0

    @abstractmethod
    def index(self) -> Tensor:
        """Places of the live keys, event by event: int64 ``(sum(lengths),)``."""

    def compact(self) -> Packing:
        """The live keys as if they lay end to end."""
        return Packing.from_lengths(self.lengths)

    def check_size(self, places: int) -> None:
        """Raise ``ValueError`` unless the storage may have so many places."""
        if self.num_places is not None and self.num_places != places:
            raise ValueError(
                f"the storage of keys has {self.num_places} places, but there are {places} keys"
            )

    def check_keys(self, places: int) -> None:
        """Raise ``ValueError`` unless so many keys and values hold all live ones."""
        self.check_size(places)
        if places < self.min_places:
            raise ValueError(
                f"the storage of keys has at least {self.min_places} places, but there are "
                f"{places} keys"
            )

    def _read(self, *names: str) -> None:
        """Replace these fields by tuples of whole numbers, and check the lengths."""
        for name in (*names, "lengths"):
            object.__setattr__(self, name, whole_numbers(getattr(self, name), name, 0))
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError("every event needs at least one key; leave empty events out")
        if sum(self.lengths) > MAX_TOKENS:
            raise ValueError(f"{sum(self.lengths)} keys exceed 2^31 - 1; use smaller batches")
        if any(len(getattr(self, name)) != len(self.lengths) for name in names):
            raise ValueError(f"{type(self).__name__} needs one start for each length")


def _ranges(starts: list[int], lengths: tuple[int, ...]) -> Tensor:
    total = sum(lengths)
    before = torch.tensor([0, *accumulate(lengths)][:-1], device="cpu")
    # output_size keeps the size static in traced programs.
    shift = torch.tensor(starts, device="cpu") - before
    counts = torch.tensor(lengths, device="cpu")
    return torch.arange(total, device="cpu") + shift.repeat_interleave(counts, output_size=total)


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
        object.__setattr__(self, "padding", whole_number(self.padding, "padding", 1))
        self._read()
        if max(self.lengths) > self.padding:
            raise ValueError(
                f"an event has {max(self.lengths)} keys, but only {self.padding} places"
            )

    @property
    def num_places(self) -> int:
        return self.padding * len(self.lengths)

    def index(self) -> Tensor:
        return _ranges([i * self.padding for i in range(len(self.lengths))], self.lengths)


@dataclass(frozen=True)
class GappyKeys(KeyStorage):
    """Event i owns ``lengths[i]`` places from ``starts[i]`` on.

    Parameters
    ----------
    starts
        First place of each event, in any order; events may share places.
    lengths
        Live keys of each event.
    places
        Size of the storage; None allows any that holds the last key.
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    places: int | None = None

    def __post_init__(self) -> None:
        self._read("starts")
        if self.places is None:
            return
        places = whole_number(self.places, "places", 1)
        object.__setattr__(self, "places", places)
        if places < self.min_places:
            raise ValueError(
                f"an event's keys end at {self.min_places}, after the last of {places} places"
            )

    @property
    def num_places(self) -> int | None:
        return self.places

    @property
    def min_places(self) -> int:
        """Where the last key ends."""
        return max(s + n for s, n in zip(self.starts, self.lengths, strict=True))

    def index(self) -> Tensor:
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
    starts
        Places at the beginning of each event's first page, or pages, that hold no live key; None
        means none.
    """

    tables: Tensor
    page_size: int
    lengths: tuple[int, ...]
    starts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "page_size", whole_number(self.page_size, "page_size", 1))
        self._read(*([] if self.starts is None else ["starts"]))
        tables, events = self.tables, len(self.lengths)
        check_whole_table(tables, "a block table", (2,), minimum=None)
        if len(tables) != events:
            raise ValueError(
                f"block tables are (events, pages) for {events} events, not {tuple(tables.shape)}"
            )
        room = tables.shape[1] * self.page_size
        if max(self.ends) > room:
            raise ValueError(
                f"an event has {max(self.ends)} keys, but its block table ends after {room}"
            )
        # Reading a table on a GPU would synchronise with it.
        if tables.device.type != "cpu":
            return
        if int(self._pages.min()) < 0:
            raise ValueError("a page that holds keys has a number of at least 0 in its block table")
        if int(self._pages.max()) > MAX_TOKENS:
            raise ValueError(f"a page has a number of at most {MAX_TOKENS} in its block table")
        _ = self.min_places  # now, since a traced program cannot look at tensors

    @property
    def ends(self) -> tuple[int, ...]:
        """Place in an event's pages after its last key."""
        starts = self.starts or (0,) * len(self.lengths)
        return tuple(s + n for s, n in zip(starts, self.lengths, strict=True))

    @property
    def num_places(self) -> None:
        return None

    @cached_property
    def min_places(self) -> int:  # type: ignore[override]
        """Where the last key ends; not known of tables on a device."""
        return int(self._index.max()) + 1 if self.tables.device.type == "cpu" else 0

    def index(self) -> Tensor:
        return self._index

    @cached_property
    def _places(self) -> Tensor:
        """Places of the live keys in the pages of their events."""
        return _ranges(list(self.starts or [0] * len(self.lengths)), self.lengths)

    @cached_property
    def _pages(self) -> Tensor:
        """The page of each live key."""
        counts = torch.tensor(self.lengths, device="cpu")
        event = torch.arange(len(counts), device="cpu").repeat_interleave(
            counts, output_size=sum(self.lengths)
        )
        return self.tables.cpu().long()[event, self._places // self.page_size]

    @cached_property
    def _index(self) -> Tensor:
        return self._pages * self.page_size + self._places % self.page_size
