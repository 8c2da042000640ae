"""What is kept of a test of a generator: events of the data, and generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import h5py
import torch
from torch import Tensor

from data.atomic import atomic_path
from experiments.metrics.sample import OfSample


@dataclass(frozen=True)
class Generated(OfSample):
    """Events of a sample, and as many that were generated.

    Parameters
    ----------
    loss
        ``(N,)`` loss of each event.
    nll
        ``(n,)`` negative logarithms of the density of some of the events; empty if not computed.
    inside
        ``(n,)``, 1 for those of them that come from inside of the cuts of the base, else 0.
    truth, made
        ``(N, P, 4)`` four-momenta of the data and of generated events in GeV, float64; without
        events in validations.
    """

    loss: Tensor
    nll: Tensor
    inside: Tensor
    truth: Tensor
    made: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Generated]) -> Generated:
        """Concatenate those of batches, on the CPU."""
        names = [field.name for field in fields(cls)]
        return cls(*(torch.cat([getattr(part, name).cpu() for part in parts]) for name in names))

    def save(self, path: Path, names: Sequence[str]) -> None:
        """Write events to an HDF5 file."""
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            for name, events in (("truth", self.truth), ("generated", self.made)):
                file[name] = events.numpy()
                file[name].attrs.update({"columns": "E,px,py,pz", "unit": "GeV"})
            file["nll"] = self.nll.numpy()
            file.attrs["particles"] = ",".join(names)
