"""Make packed batches of jets: truncation, augmentation, features.

Legend: T particles of a batch, N constituents of a sample.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from data.errors import listed
from data.jets import FloatArray, Jets
from experiments.data.augmentations import AUGMENTATIONS, augment, check_augmentations, draw
from experiments.data.balance import Weights
from experiments.data.batch import WEIGHT, EventBatch
from experiments.data.features import (
    COLUMN,
    FEATURES,
    SETS,
    columns_of,
    compute_features,
    feature_names,
)
from experiments.data.raw_batches import RawBatches
from experiments.options.markers import OneOf
from lgatr import Packing

Feature = Annotated[str, OneOf((*FEATURES, *SETS), COLUMN)]
Augmentation = Annotated[str, OneOf(AUGMENTATIONS)]


@dataclass(frozen=True)
class Preparation:
    """Callable that makes a packed batch of jets.

    Parameters
    ----------
    features
        Names of scalar features, or of sets of them; see :mod:`experiments.data.features`.
    max_constituents
        Maximum number of constituents kept of each jet, those of highest pT; 0 for all.
    augmentations
        Names of random transformations, applied in this order;
        see :mod:`experiments.data.augmentations`.
    seed
        Augmentation seed.
    event_columns
        Names of columns of jets that batches carry along.
    weights
        Of training jets, in place of their column :data:`~experiments.data.batch.WEIGHT`.

    Raises
    ------
    ValueError
        If a name is unknown, or an augmentation invalidates a feature.
    """

    features: Sequence[str] = ()
    max_constituents: int = 0
    augmentations: Sequence[str] = ()
    seed: int = 0
    event_columns: tuple[str, ...] = ()
    weights: Weights | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", feature_names(self.features))
        object.__setattr__(self, "augmentations", tuple(self.augmentations))
        check_augmentations(self.augmentations, self.features)

    def without_augmentations(self) -> Preparation:
        """A copy without augmentations, for validation and test."""
        return replace(self, augmentations=())

    def for_split(self, split: str, columns: Collection[str]) -> Preparation:
        """A copy for a split whose jets have these columns; tests have their own weights alone."""
        weights = None if split == "test" else self.weights
        weighted = weights is not None or WEIGHT in columns
        wanted = tuple(name for name in self.event_columns if name != WEIGHT)
        names = (*wanted, WEIGHT) if weighted else wanted
        return replace(self, weights=weights, event_columns=names)

    def truncated(self, jets: Jets) -> Jets:
        """The jets with no more constituents than are kept."""
        if self.max_constituents and int(jets.lengths.max()) > self.max_constituents:
            return jets.leading(self.max_constituents)
        return jets

    def columns_of(self, jets: Jets) -> tuple[str, ...]:
        """Names of the columns of particles that features are computed from.

        Raises
        ------
        ValueError
            If the jets lack one.
        """
        return columns_of(self.features, jets.particles)

    def draws(self, constituents: FloatArray, events: int) -> Tensor:
        """The random numbers of a batch: ``(augmentations, events)``.

        Parameters
        ----------
        constituents
            ``(T, 4)`` of the truncated jets of the batch.
        """
        if not self.augmentations:
            return torch.empty(0, events, dtype=torch.float64)
        # Seeded by the jets of the batch: the same in any process and after a resumption, and
        # different in the next epoch, when a jet shares its batch with others.
        content = zlib.crc32(np.ascontiguousarray(constituents).data)
        state = np.random.SeedSequence([self.seed, content]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
        return draw(self.augmentations, events, generator)

    def raw(self, jets: Jets) -> RawBatches:
        """Pack jets into a batch, in the given order, with nothing computed yet."""
        of_events, jets = self.of_events(jets), self.truncated(jets)
        names = self.columns_of(jets)
        return RawBatches(
            torch.from_numpy(np.ascontiguousarray(jets.constituents)),
            stacked(jets.particles, names, len(jets.constituents)),
            names,
            self.draws(jets.constituents, len(jets)),
            torch.from_numpy(jets.labels),
            (Packing.from_lengths(jets.lengths.tolist()),),
            of_events,
            self.event_columns,
        )

    def of_events(self, jets: Jets) -> Tensor:
        """Columns of whole jets that batches carry along: ``(columns, jets)`` float32.

        Raises
        ------
        ValueError
            If the jets lack one.
        """
        columns = dict(jets.jets)
        if self.weights is not None:
            columns[WEIGHT] = self.weights.of(jets)
        if missing := [name for name in self.event_columns if name not in columns]:
            known = listed(jets.jets)
            raise ValueError(
                f"{jets.source}: its jets have no column {listed(missing)}; they have {known}"
            )
        return stacked(columns, self.event_columns, len(jets))

    def finished(self, raw: RawBatches) -> list[EventBatch]:
        """Augment momenta and compute features, on the device where the batches are.

        Batches have memory of their own: their numbers must not depend on which others they were
        prepared with, and products of matrices differ in the last bit with the place in memory.
        """
        fourmomenta = augment(raw.fourmomenta, raw.whole, self.augmentations, raw.draws)
        columns = dict(zip(raw.names, raw.columns, strict=True))
        scalars = compute_features(fourmomenta, raw.whole, self.features, columns)

        def columns_of(of_events: Tensor) -> dict[str, Tensor]:
            return dict(zip(raw.event_names, of_events.unbind(0), strict=True))

        if len(raw.packings) == 1:
            of_events = columns_of(raw.of_events)
            packing = raw.packings[0]
            return [EventBatch(fourmomenta, scalars, packing, raw.target, columns=of_events)]
        particles = [packing.num_tokens for packing in raw.packings]
        events = [packing.num_events for packing in raw.packings]
        parts = zip(
            fourmomenta.split(particles), scalars.split(particles), raw.packings,
            raw.target.split(events), raw.of_events.split(events, dim=1), strict=True,
        )  # fmt: skip
        return [
            EventBatch(p.clone(), s.clone(), packing, y.clone(), columns=columns_of(x.clone()))
            for p, s, packing, y, x in parts
        ]

    def __call__(self, jets: Jets) -> EventBatch:
        """Pack jets into a batch, in the given order."""
        return self.finished(RawBatches.joined([self.raw(jets)]))[0]


def stacked(columns: Mapping[str, FloatArray], names: Sequence[str], size: int) -> Tensor:
    """Columns by name: ``(columns, size)`` float32, in memory of their own."""
    found = np.empty((len(names), size), np.float32)
    for row, name in zip(found, names, strict=True):
        row[:] = columns[name]
    return torch.from_numpy(found)
