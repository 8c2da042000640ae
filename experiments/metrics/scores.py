"""Scores of a tagger on a whole sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import torch
from torch import Tensor, distributed

from data.atomic import atomic_path
from data.errors import DataError
from data.hdf5 import get_dataset, open_hdf5
from data.reading import reading
from experiments.data.batch import EventBatch


@dataclass(frozen=True)
class Scores:
    """Logits, labels and masses of jets.

    Parameters
    ----------
    logits
        ``(J,)`` for two classes, else ``(J, K)``, float32.
    target
        ``(J,)`` labels.
    mass
        ``(J,)`` invariant mass of each jet in GeV.
    """

    logits: Tensor
    target: Tensor
    mass: Tensor

    @classmethod
    def of(cls, logits: Tensor, batch: EventBatch) -> Scores:
        """Scores of one batch."""
        index = batch.packing.batch_index()
        # Float64, because the mass is a small difference of large numbers.
        momenta = batch.fourmomenta.double()
        jets = momenta.new_zeros(len(batch), 4).index_add(0, index, momenta)
        squared = jets[:, 0].square() - jets[:, 1:].square().sum(dim=1)
        return cls(logits.detach().float(), batch.target, squared.clamp(min=0).sqrt().float())

    @classmethod
    def joined(cls, parts: list[Scores]) -> Scores:
        """Concatenate the scores of batches, on the CPU."""
        columns = zip(*((p.logits, p.target, p.mass) for p in parts), strict=True)
        return cls(*(torch.cat(column).cpu() for column in columns))

    def save(self, path: Path, classes: Sequence[str]) -> None:
        """Write scores to an HDF5 file, with the names of the classes as an attribute."""
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            for name in ("logits", "target", "mass"):
                file[name] = getattr(self, name).numpy()
            file.attrs["classes"] = list(classes)

    @classmethod
    def load(cls, path: Path) -> tuple[Scores, tuple[str, ...]]:
        """Read what :meth:`save` wrote: scores, and names of the classes.

        Raises
        ------
        DataError
            If there is no such file, or it is damaged.
        """
        if not path.is_file():
            raise DataError(f"{path}: no such file; a finished run holds one")
        with reading(path), open_hdf5(path) as (file, _):
            names = ("logits", "target", "mass")
            columns = [torch.from_numpy(get_dataset(path, file, name)[:]) for name in names]
            classes = tuple(map(str, file.attrs["classes"]))
            shapes = [tuple(column.shape) for column in columns]
            jets = shapes[1]
            if len(jets) != 1 or jets != shapes[2] or jets != shapes[0][:1] or len(classes) < 2:
                raise DataError(f"{path}: {shapes} are no scores of {len(classes)} classes")
            return cls(*columns), classes

    def of_all_processes(self) -> Scores:
        """Concatenate with the scores of all other processes, if there are any."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        parts: list[Scores | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, self)
        return Scores.joined([part for part in parts if part is not None])

    @property
    def probability(self) -> Tensor:
        """Probability of class 1, or of the most probable of several classes; ``(J,)`` float64."""
        logits = self.logits.double()
        return logits.sigmoid() if logits.dim() == 1 else logits.softmax(dim=1).amax(dim=1)

    @property
    def as_predicted(self) -> Tensor:
        """Whether that class is the true one; ``(J,)``."""
        if self.logits.dim() == 1:
            return self.target == 1
        return self.logits.argmax(dim=1) == self.target
