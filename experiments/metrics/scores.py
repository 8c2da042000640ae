"""Scores of a tagger on a whole sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import torch
from torch import Tensor

from data.atomic import atomic_path
from data.errors import DataError
from data.hdf5 import get_dataset, open_hdf5
from data.reading import reading
from experiments.data.batch import EventBatch
from experiments.metrics.sample import OfSample

_COLUMNS = ("logits", "target", "mass")


@dataclass(frozen=True)
class Scores(OfSample):
    """Logits, labels, masses and transverse momenta of jets, and their weights if they have any.

    Parameters
    ----------
    logits
        ``(J,)`` for two classes, else ``(J, K)``, float32.
    target
        ``(J,)`` labels.
    mass, pt
        ``(J,)`` invariant mass and transverse momentum of each jet in GeV.
    weight
        ``(J,)``, or None if all are one.
    """

    logits: Tensor
    target: Tensor
    mass: Tensor
    pt: Tensor
    weight: Tensor | None = None

    @classmethod
    def of(cls, logits: Tensor, batch: EventBatch) -> Scores:
        """Scores of one batch."""
        index = batch.packing.batch_index()
        # Float64, because the mass is a small difference of large numbers.
        momenta = batch.fourmomenta.double()
        jets = momenta.new_zeros(len(batch), 4).index_add(0, index, momenta)
        squared = jets[:, 0].square() - jets[:, 1:].square().sum(dim=1)
        mass, pt = squared.clamp(min=0).sqrt().float(), jets[:, 1:3].norm(dim=1).float()
        return cls(logits.detach().float(), batch.target, mass, pt, batch.weight)

    @classmethod
    def joined(cls, parts: list[Scores]) -> Scores:
        """Concatenate the scores of batches, on the CPU."""
        weights = [p.weight for p in parts if p.weight is not None]
        return cls(
            torch.cat([p.logits for p in parts]).cpu(),
            torch.cat([p.target for p in parts]).cpu(),
            torch.cat([p.mass for p in parts]).cpu(),
            torch.cat([p.pt for p in parts]).cpu(),
            torch.cat(weights).cpu() if weights else None,
        )

    def where(self, chosen: Tensor) -> Scores:
        """Those of some jets, by numbers or truth values."""
        weight = None if self.weight is None else self.weight[chosen]
        return Scores(
            self.logits[chosen], self.target[chosen], self.mass[chosen], self.pt[chosen], weight
        )

    def save(self, path: Path, classes: Sequence[str]) -> None:
        """Write scores to an HDF5 file, with the names of the classes as an attribute."""
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            for name in (*_COLUMNS, "pt", *([] if self.weight is None else ["weight"])):
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
            # Runs of earlier versions did not keep pT, and weights were one.
            names = (*_COLUMNS, *(name for name in ("pt", "weight") if name in file))
            found = {n: torch.from_numpy(get_dataset(path, file, n)[:]) for n in names}
            classes = tuple(map(str, file.attrs["classes"]))
            shapes = {name: tuple(column.shape) for name, column in found.items()}
            jets = shapes["target"]
            same = all(shape[:1] == jets for shape in shapes.values())
            flat = all(len(shape) == 1 for name, shape in shapes.items() if name != "logits")
            if not (same and flat and len(classes) >= 2):
                raise DataError(f"{path}: {shapes} are no scores of {len(classes)} classes")
            pt = found.get("pt", torch.full_like(found["mass"], math.nan))
            logits, target, mass = (found[name] for name in _COLUMNS)
            return cls(logits, target, mass, pt, found.get("weight")), classes

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
