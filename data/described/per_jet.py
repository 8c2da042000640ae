"""Entries that are events, turned into jets: each field one number, or one list, for every jet.

Legend: E events, J jets of all events, N particles in all jets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.described.description import EventsOfJets
from data.errors import DataError
from data.jets import IntArray


def jets_in(path: Path, events: EventsOfJets, values: Mapping[str, Any]) -> IntArray:
    """Number of jets of each event, ``(E,)``."""
    import awkward as ak

    for name, array in values.items():
        if name.startswith(events.jets) and array.ndim > 1:
            return np.asarray(ak.num(array, axis=1), dtype=np.int64)
    raise DataError(
        f"{path}: no field that begins with {events.jets!r} has a number for each jet; see events "
        "in the description"
    )


def per_jet(path: Path, events: EventsOfJets, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of events as fields of jets: those of particles are lists, of the jet's particles.

    Raises
    ------
    DataError
        If a jet has a particle that the event has not.
    """
    import awkward as ak

    counts = jets_in(path, events, values)
    rows, lengths = _particles_of(path, events, values, counts)
    found = {}
    for name, array in values.items():
        if name in events.links:
            continue
        if name.startswith(events.particles):
            found[name] = ak.unflatten(ak.flatten(array, axis=1)[rows], lengths)
        elif name.startswith(events.jets):
            found[name] = ak.flatten(array, axis=1)
        else:
            found[name] = array[np.repeat(np.arange(len(counts)), counts)]
    return found


def _particles_of(
    path: Path, events: EventsOfJets, values: Mapping[str, Any], counts: IntArray
) -> tuple[IntArray, IntArray]:
    """Numbers of the particles of all jets among those of all events, ``(N,)``, and how many."""
    import awkward as ak

    first, second = (values[name] for name in events.links)
    some = next(
        (x for name, x in values.items() if name.startswith(events.particles) and x.ndim > 1), None
    )
    if some is None:
        raise DataError(
            f"{path}: no field that begins with {events.particles!r} has a number for each "
            "particle; see events in the description"
        )
    particles = np.asarray(ak.num(some, axis=1), dtype=np.int64)
    starts = np.cumsum(particles) - particles
    if events.references is not None:
        return _referenced(path, first, second, starts)
    event = np.repeat(np.arange(len(counts)), np.asarray(ak.num(first, axis=1)))
    jet, particle = (np.asarray(ak.flatten(x), dtype=np.int64) for x in (first, second))
    linked = jet >= 0
    event, jet, particle = event[linked], jet[linked], particle[linked]
    wrong = (jet >= counts[event]) | (particle < 0) | (particle >= particles[event])
    if wrong.any():
        raise DataError(
            f"{path}: event {event[int(np.argmax(wrong))]} links jets and particles that it does "
            "not have"
        )
    numbers = (np.cumsum(counts) - counts)[event] + jet
    order = np.argsort(numbers, kind="stable")
    rows = (starts[event] + particle)[order]
    return rows, np.bincount(numbers, minlength=int(counts.sum())).astype(np.int64)


def _referenced(
    path: Path, references: Any, identifiers: Any, starts: IntArray
) -> tuple[IntArray, IntArray]:
    import awkward as ak

    if "refs" in references.fields:  # an array of references of ROOT
        references = references["refs"]
    lengths = np.asarray(ak.flatten(ak.num(references, axis=2)), dtype=np.int64)
    rows = [np.zeros(0, np.int64)]
    pairs = zip(ak.flatten(references, axis=2), identifiers, starts.tolist(), strict=True)
    for event, (wanted, known, start) in enumerate(pairs):
        wanted, known = np.asarray(wanted), np.asarray(known)
        order = np.argsort(known)
        place = np.searchsorted(known, wanted, sorter=order).clip(max=max(len(known) - 1, 0))
        if len(wanted) and (not len(known) or (known[order[place]] != wanted).any()):
            raise DataError(
                f"{path}: event {event} has a jet with particles that it does not have; is "
                "events.references of the right particles?"
            )
        rows.append(start + order[place] if len(wanted) else np.zeros(0, np.int64))
    return np.concatenate(rows), lengths
