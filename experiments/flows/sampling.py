"""Generate many events in chunks that are kept on disk, so that a sampling can be resumed.

Legend: B events of a chunk, P particles of each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from data.atomic import write_text
from data.events.final_state import FinalState, FloatArray
from experiments.errors import UserError

MOST_TRIES = 100
"""For an event that passes the cuts."""
_ATTEMPT = 1 << 40
"""Numbers of events of one attempt; the next begin behind them."""

Generate = Callable[[Sequence[int]], Tensor]
"""Events ``(B, P, 4)`` of their numbers."""


def passing(generate: Generate, numbers: Sequence[int], state: FinalState) -> FloatArray:
    """Events that pass the cuts: those that do not are generated again, under other numbers.

    Raises
    ------
    UserError
        If one fails them a hundred times.
    """
    left = list(numbers)
    found = np.empty((len(left), len(state.names), 4))
    rows = np.arange(len(left))
    for attempt in range(MOST_TRIES):
        events = generate([number + attempt * _ATTEMPT for number in left]).numpy(force=True)
        passed = state.passed(events)
        found[rows[passed]] = events[passed]
        rows = rows[~passed]
        if not len(rows):
            return found
        left = [number for number, good in zip(left, passed, strict=True) if not good]
    raise UserError(
        f"{len(rows)} events failed the cuts {MOST_TRIES} times; train the network further, or "
        "keep all with --all"
    )


class Progress:
    """Events that are there already, in a file beside the one that is wanted.

    Parameters
    ----------
    target
        The file that is wanted.
    identity
        What the events depend on; a file of others is refused.
    particles
        P.
    """

    def __init__(self, target: Path, identity: Mapping[str, Any], particles: int) -> None:
        self.events_file = target.with_name(f"{target.name}.part")
        self.notes_file = target.with_name(f"{target.name}.part.json")
        self.particles = particles
        noted = dict(identity)
        if self.notes_file.is_file():
            try:
                found = json.loads(self.notes_file.read_text())
            except ValueError:
                found = None
            if found != noted:
                raise UserError(
                    f"{self.events_file}: begun with another run, seed or solver; remove it and "
                    f"{self.notes_file.name}, or choose another name"
                )
        else:
            if self.events_file.exists():
                raise UserError(f"{self.events_file}: is in the way; remove it")
            write_text(self.notes_file, json.dumps(noted))

    @property
    def _bytes(self) -> int:
        return 8 * 4 * self.particles

    def __len__(self) -> int:
        if not self.events_file.is_file():
            return 0
        return self.events_file.stat().st_size // self._bytes

    def append(self, events: FloatArray) -> None:
        """Add events behind those that are complete."""
        with open(self.events_file, "ab") as file:
            file.truncate(len(self) * self._bytes)
            file.write(np.ascontiguousarray(events, dtype="<f8").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def chunks(self, size: int) -> Iterator[FloatArray]:
        """All events, ``size`` at a time."""
        with open(self.events_file, "rb") as file:
            for _ in range(-(-len(self) // size)):
                read = file.read(size * self._bytes)
                yield np.frombuffer(read, dtype="<f8").reshape(-1, self.particles, 4)

    def remove(self) -> None:
        """Remove both files."""
        self.events_file.unlink(missing_ok=True)
        self.notes_file.unlink(missing_ok=True)
