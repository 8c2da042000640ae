"""Data module of whole events, which are to be generated.

Legend: N events, P particles of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from data.errors import DataError
from data.events import files
from data.events.final_state import FinalState
from experiments.data.batch import DataSpec
from experiments.data.fixed_data import FixedData, bounds_of_shares, rows_given, rows_of
from experiments.data.fixed_loader import FixedEvents
from experiments.errors import UserError
from experiments.options.markers import Count, Limit, Range, Seed, Text

Mass = Annotated[float, Range(0)] | None
Part = Annotated[float, Range(0, 1, above=True, below=True)]


class EventData(FixedData):
    """Events of one kind, in the laboratory.

    Parameters
    ----------
    path
        A file of ``python -m data.generate ttbar`` or ``zmumu``, or rows of numbers (``.npy``, or
        HDF5 with ``table``).
    table
        The data set in an HDF5 file that has the rows of numbers.
    names, masses, cuts
        For rows of numbers: names of the particles, their masses in GeV (null for jets), and
        ``pt``, ``delta_r`` and ``eta`` of the cuts on jets.
    shares
        Of rows of numbers, for training, validation and test, in this order from the first row.
    conditional
        Whether events are generated from what a detector sees of them.
    batch_size, eval_batch_size
        Events in a batch.
    limit
        Maximum number of training events; 0 for all.
    seed
        Shuffle seed.
    eval_limit
        Maximum number of events of validation and test each; 0 for all.
    """

    def __init__(
        self,
        path: Text,
        table: Text | None,
        names: Sequence[Text] | None,
        masses: Sequence[Mass] | None,
        cuts: Mapping[str, Any] | None,
        shares: Sequence[Part],
        conditional: bool,
        batch_size: Count,
        eval_batch_size: Count,
        limit: Limit,
        seed: Seed,
        eval_limit: Limit = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, seed)
        described = {"names": names, "masses": masses, "cuts": cuts}
        self.rows = rows_given(path, table, described)
        self.path, self.conditional = path, conditional
        self.limits = {"train": limit, "val": eval_limit, "test": eval_limit}
        self.bounds = bounds_of_shares(shares)
        self._state: FinalState | None = None
        if names is not None and masses is not None and cuts is not None:
            plain = {"names": list(names), "masses": list(masses), "cuts": dict(cuts)}
            try:
                self._state = FinalState.from_plain(plain)
            except ValueError as error:
                raise UserError(f"data: {error}") from error

    @property
    def spec(self) -> DataSpec:  # type: ignore[override]
        """What a model needs to know; available after :meth:`setup`."""
        assert self._state is not None
        return DataSpec(0, final_state=self._state, conditional=self.conditional)

    def load(self, split: str) -> tuple[FixedEvents, str, list[np.ndarray]]:
        """Read a split."""
        path, limit = Path(self.path), self.limits[split]
        if self.rows is None:
            sample = files.read(path, split, limit or None)
        else:
            assert self._state is not None
            chosen = partial(rows_of, path, split, self.bounds, limit)
            sample = files.read_rows(self.rows, self._state, chosen)
        self._state = sample.final_state
        condition = None
        if self.conditional:
            if sample.detected is None:
                raise DataError(f"{path}: has no events as a detector sees them; make it anew")
            condition = torch.from_numpy(sample.detected)
        momenta = torch.from_numpy(sample.momenta)
        count, particles = momenta.shape[:2]
        events = FixedEvents(
            momenta, torch.zeros(particles, 0), torch.zeros(count, dtype=torch.float64), condition
        )
        arrays = [x for x in (sample.momenta, sample.detected) if x is not None]
        return events, repr(sample.final_state), arrays
