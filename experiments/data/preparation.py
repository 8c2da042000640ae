"""Make packed batches of jets: truncation, augmentation, features."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch

from data.jets import Jets
from experiments.data.augmentations import AUGMENTATIONS, augment, check_augmentations
from experiments.data.batch import EventBatch
from experiments.data.features import JET_FEATURES, SETS, compute_features, feature_names
from experiments.options.markers import OneOf
from lgatr import Packing

Feature = Annotated[str, OneOf((*JET_FEATURES, *SETS))]
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

    Raises
    ------
    ValueError
        If a name is unknown, or an augmentation invalidates a feature.
    """

    features: Sequence[str] = ()
    max_constituents: int = 0
    augmentations: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", feature_names(self.features))
        object.__setattr__(self, "augmentations", tuple(self.augmentations))
        check_augmentations(self.augmentations, self.features)

    def without_augmentations(self) -> Preparation:
        """A copy without augmentations, for validation and test."""
        return replace(self, augmentations=())

    def _generator(self, jets: Jets) -> torch.Generator:
        # Seeded by the jets of the batch: the same in any process and after a resumption, and
        # different in the next epoch, when a jet shares its batch with others.
        content = zlib.crc32(jets.constituents.tobytes())
        state = np.random.SeedSequence([self.seed, content]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))

    def __call__(self, jets: Jets) -> EventBatch:
        """Pack jets into a batch, in the given order."""
        if self.max_constituents and int(jets.lengths.max()) > self.max_constituents:
            jets = jets.leading(self.max_constituents)
        fourmomenta = torch.from_numpy(np.ascontiguousarray(jets.constituents))
        packing = Packing.from_lengths(jets.lengths.tolist())
        if self.augmentations:
            generator = self._generator(jets)
            fourmomenta = augment(fourmomenta, packing, self.augmentations, generator)
        columns = {name: torch.from_numpy(np.asarray(c)) for name, c in jets.particles.items()}
        scalars = compute_features(fourmomenta, packing, self.features, columns)
        return EventBatch(fourmomenta, scalars, packing, torch.from_numpy(jets.labels))
