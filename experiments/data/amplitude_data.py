"""Data module of events with squared amplitudes.

Legend: N events, P particles of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from rich.progress import track

from data.amplitudes import files, frames
from data.amplitudes.phase_space import Cuts
from data.amplitudes.processes import PROCESSES, generate
from experiments.data.batch import DataSpec
from experiments.data.fixed_data import (
    SPLITS,
    FixedData,
    bounds_of_shares,
    rows_given,
    rows_of,
)
from experiments.data.fixed_loader import FixedEvents
from experiments.options.markers import Count, Limit, OneOf, Range, Seed, Text

_ENERGY, _CUTS = (500.0, 1500.0), Cuts(20.0, 0.4)
Mass = Annotated[float, Range(0)]
Part = Annotated[float, Range(0, 1, above=True, below=True)]


class AmplitudeData(FixedData):
    """Events of one process, with the logarithm of the squared amplitude as target.

    Events are boosted to their centre of mass, and from there each to a frame of its own. Particles
    have one scalar feature for each type, 1 for their own.

    Parameters
    ----------
    path
        A file of ``python -m data.generate amplitudes``, or rows of numbers (``.npy``, or HDF5
        with ``table``). None generates events of ``process``.
    table
        The data set in an HDF5 file that has the rows of numbers.
    process
        What scatters; see :mod:`data.amplitudes.command`.
    events, eval_events
        Training events, and events of validation and test each, that are generated.
    generation_seed
        Of the generated events.
    types, masses
        For rows of numbers: a number for each particle, the same for particles of one kind, and
        masses in GeV; two incoming particles first.
    shares
        Of rows of numbers, for training, validation and test, in this order from the first row.
    batch_size, eval_batch_size
        Events in a batch.
    frame_velocity
        Standard deviation of each component of the frames' velocities, in units of that of light;
        see :func:`data.amplitudes.frames.in_random_frames`. 0 leaves all events in their centre of
        mass, with the beam along z.
    limit
        Maximum number of training events; 0 for all.
    seed
        Shuffle seed.
    eval_limit
        Maximum number of events of validation and test each; 0 for all.
    """

    def __init__(
        self,
        path: Text | None,
        table: Text | None,
        process: Annotated[str, OneOf(tuple(PROCESSES))],
        events: Count,
        eval_events: Count,
        generation_seed: Seed,
        types: Sequence[Limit] | None,
        masses: Sequence[Mass] | None,
        shares: Sequence[Part],
        batch_size: Count,
        eval_batch_size: Count,
        frame_velocity: Annotated[float, Range(0, frames.MOST)],
        limit: Limit,
        seed: Seed,
        eval_limit: Limit = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, seed)
        self.rows = rows_given(path, table, {"types": types, "masses": masses})
        self.path, self.process = path, process
        self.numbers = {"train": events, "val": eval_events, "test": eval_events}
        self.limits = {"train": limit, "val": eval_limit, "test": eval_limit}
        self.generation_seed = generation_seed
        self.types, self.masses, self.bounds = types, masses, bounds_of_shares(shares)
        self.frame_velocity = frame_velocity

    @property
    def source(self) -> str:
        """Where the events come from, for reports."""
        made = f"{self.process}, generated with seed {self.generation_seed}"
        return made if self.path is None else str(self.path)

    @property
    def spec(self) -> DataSpec:  # type: ignore[override]
        """What a model needs to know; available after :meth:`setup`."""
        events = next(iter(self.events.values()))
        return DataSpec(events.scalars.shape[1], quantity="logarithm of the amplitude")

    def load(self, split: str) -> tuple[FixedEvents, str, list[np.ndarray]]:
        """Read or generate a split, and choose the frames of its events."""
        sample = self._generated(split) if self.path is None else self._read(split)
        described = repr((sample.types, sample.masses))
        return self._prepared(sample, split), described, [sample.momenta, sample.amplitudes]

    def _generated(self, split: str) -> files.Sample:
        process = PROCESSES[self.process]
        count = self.numbers[split]
        if limit := self.limits[split]:
            count = min(count, limit)
        # Seeds apart, so that a sample does not depend on the size of another.
        seed = self.generation_seed + (SPLITS.index(split) << 32)
        chunks = generate(process, count, seed, _ENERGY, _CUTS)
        found = [
            np.concatenate(parts)
            for parts in zip(*track(chunks, f"{process.title}, {split}"), strict=True)
        ]
        return files.Sample(found[0], found[1], process.types, process.masses)

    def _read(self, split: str) -> files.Sample:
        assert self.path is not None
        path, limit = Path(self.path), self.limits[split]
        if self.rows is None:
            return files.read(path, split, limit or None)
        assert self.types is not None and self.masses is not None
        chosen = partial(rows_of, path, split, self.bounds, limit)
        return files.read_rows(self.rows, self.types, self.masses, chosen)

    def _prepared(self, sample: files.Sample, split: str) -> FixedEvents:
        momenta = frames.at_rest(frames.on_shell(sample.momenta, sample.masses))
        if self.frame_velocity:
            random = np.random.default_rng([self.generation_seed, SPLITS.index(split)])
            momenta = frames.in_random_frames(momenta, self.frame_velocity, random)
        kinds = sorted(set(sample.types))
        scalars = torch.tensor([[float(t == kind) for kind in kinds] for t in sample.types])
        target = torch.from_numpy(np.log(sample.amplitudes))
        return FixedEvents(torch.from_numpy(momenta), scalars, target)

    def target_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the target of all training events."""
        target = self.events["train"].target
        return float(target.mean()), float(target.std(correction=0))
