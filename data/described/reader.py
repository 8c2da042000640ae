"""Read jets of files through a description.

Legend: J jets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.described import sources
from data.described.assembly import Assembly
from data.described.description import Description
from data.described.per_jet import jets_in, per_jet
from data.described.sources.base import Source
from data.jets import IntArray, Jets
from data.reading import Snapshot

_AT_ONCE = 100_000
"""Entries that are read at a time to find out which jets are wanted."""


@dataclass(frozen=True)
class Index:
    """Where the wanted jets of a file lie.

    Parameters
    ----------
    entries
        Of the file.
    offsets
        ``(entries + 1,)``, jets before each entry; None if each entry is a jet.
    wanted
        Numbers of the wanted jets; None if all are.
    """

    entries: int
    offsets: IntArray | None
    wanted: IntArray | None

    def __len__(self) -> int:
        if self.wanted is not None:
            return len(self.wanted)
        return self.entries if self.offsets is None else int(self.offsets[-1])

    def places(self, start: int, stop: int) -> tuple[tuple[int, int], IntArray | None]:
        """The entries in which jets ``start`` to ``stop`` lie, and their numbers among those."""
        stop = min(stop, len(self))
        if start >= stop:
            return (0, 0), None
        numbers = np.arange(start, stop) if self.wanted is None else self.wanted[start:stop]
        first, last = int(numbers[0]), int(numbers[-1])
        if self.offsets is None:
            return (first, last + 1), None if self.wanted is None else numbers - first
        begin = int(np.searchsorted(self.offsets, first, side="right")) - 1
        end = int(np.searchsorted(self.offsets, last, side="right"))
        return (begin, end), numbers - self.offsets[begin]


@dataclass(frozen=True)
class Reader:
    """Files through a description.

    Parameters
    ----------
    description
        Which field holds what.
    labelled
        Whether classes are wanted: without, jets of none are not refused and not left out.
    """

    description: Description
    labelled: bool = True
    _known: dict[Snapshot, Index] = field(default_factory=dict, repr=False)

    def count(self, file: Path) -> int:
        """Jets of a file that are wanted.

        Raises
        ------
        DataError
            If the file lacks a field.
        """
        return len(self._index(file))

    def jets(self, file: Path, start: int, stop: int) -> Jets:
        """Jets ``start`` to ``stop`` of those that are wanted, not checked."""
        description = self.description
        if description.optional_jets:
            description = description.of(self.fields(file))
        values = self.values(file, description.fields(self.labelled), start, stop)
        return Assembly(file, description, values).jets(self.labelled)

    def values(self, file: Path, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Fields of jets ``start`` to ``stop``, arrays of awkward with an entry for each."""
        entries, rows = self._index(file).places(start, stop)
        with sources.opened(file, self.description.tree) as source:
            found = self._read(file, source, names, entries)[0]
        wanted = {name: found[name] for name in names}
        return wanted if rows is None else {n: values[rows] for n, values in wanted.items()}

    def fields(self, file: Path) -> tuple[str, ...]:
        """Names of all fields of a file."""
        with sources.opened(file, self.description.tree) as source:
            return source.fields()

    def _read(
        self, file: Path, source: Source, names: Sequence[str], entries: tuple[int, int]
    ) -> tuple[dict[str, Any], IntArray]:
        """Fields, an entry for each jet, and how many jets the entries have."""
        events = self.description.events
        if events is None:
            counts = np.ones(entries[1] - entries[0], np.int64)
            return (source.read(names, *entries) if names else {}), counts
        # Which particles a jet has is told by fields of its particles and of its own.
        needed = (*names, *self.description.fields(self.labelled), *events.links)
        found = source.read(tuple(dict.fromkeys(needed)), *entries)
        return per_jet(file, events, found), jets_in(file, events, found)

    def _index(self, file: Path) -> Index:
        state = Snapshot.of(file)
        if state not in self._known:
            with sources.opened(file, self.description.tree) as source:
                self._known[state] = self._made_index(file, source)
        return self._known[state]

    def _made_index(self, file: Path, source: Source) -> Index:
        description = self.description
        entries = source.count(description.fields(self.labelled))
        drops = self.labelled and description.drops_unclassified and bool(description.classes)
        selects = description.select is not None or drops
        if not selects and description.events is None:
            return Index(entries, None, None)
        numbers, wanted = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
        for start in range(0, entries, _AT_ONCE):
            part = start, min(start + _AT_ONCE, entries)
            values, counts = self._read(file, source, description.fields_of_selection, part)
            assembly = Assembly(file, description, values)
            numbers.append(counts)
            wanted.append(assembly.wanted(int(counts.sum()), self.labelled))
        offsets = None
        if description.events is not None:
            offsets = np.concatenate([[0], np.cumsum(np.concatenate(numbers))]).astype(np.int64)
        return Index(entries, offsets, np.flatnonzero(np.concatenate(wanted)) if selects else None)
