"""A sample in the memory of the training device, from which batches are gathered there.

Legend: N constituents, J jets of the sample, T particles of a batch, C columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from data.jets import IntArray, Jets
from experiments.data.preparation import Preparation, stacked
from experiments.data.raw_batches import RawBatches, moved, upload
from lgatr import Packing

_ROWS_AT_ONCE = 1 << 20
SHARE = 0.25
"""Of the free memory of the device, what a data set may take unless it is asked for."""


def bytes_needed(jets: Jets, prepare: Preparation) -> int:
    """Bytes that a sample takes on the device, before its jets are truncated."""
    columns = len(prepare.columns_of(jets))
    of_events = len(prepare.event_columns)
    return (16 + 4 * columns) * len(jets.constituents) + (8 + 4 * of_events) * len(jets)


def free_bytes(device: torch.device) -> int:
    """Free memory of a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # a system that does not say
        return 0


def is_mapped(jets: Jets) -> bool:
    """Whether jets are read from a file when they are needed."""
    return not all(x.flags.writeable for x in (jets.constituents, *jets.particles.values()))


def should_reside(
    samples: Iterable[tuple[Jets, Preparation]], device: torch.device, workers: int | None
) -> bool:
    """Whether samples are kept on a device if nothing else is asked for.

    On a CPU samples lie in its memory already: mapped files stay mapped, and processes that were
    asked for prepare batches.

    Parameters
    ----------
    samples
        All samples of a run, with what makes batches of them.
    device
        Device of the training.
    workers
        Processes that were asked for; None if none were.
    """
    found = list(samples)
    if device.type != "cuda" and (workers or any(is_mapped(jets) for jets, _ in found)):
        return False
    return sum(bytes_needed(*sample) for sample in found) <= SHARE * free_bytes(device)


def _copied(values: npt.NDArray, device: torch.device) -> torch.Tensor:
    """Values on a device; on a CPU those in its memory themselves."""
    if device.type == "cpu":
        return torch.from_numpy(np.require(values, requirements=["C", "W"]))
    copy = torch.empty(values.shape, dtype=torch.float32, device=device)
    for first in range(0, len(values), _ROWS_AT_ONCE):  # a mapped file is not read as a whole
        part = np.array(values[first : first + _ROWS_AT_ONCE])
        copy[first : first + _ROWS_AT_ONCE] = torch.from_numpy(part)
    return copy


class ResidentJets:
    """All jets of a sample as tensors on a device, and batches of them by their numbers.

    Parameters
    ----------
    jets
        The sample. It is still read for the seeds of augmentations, which are those of batches
        prepared elsewhere.
    prepare
        Says which constituents and columns batches need.
    device
        Where the sample is copied to.
    """

    def __init__(self, jets: Jets, prepare: Preparation, device: torch.device) -> None:
        jets.check_unchanged()
        self.jets = prepare.truncated(jets)
        self.device, self.names = device, prepare.columns_of(jets)
        self.lengths = self.jets.lengths
        self.fourmomenta = _copied(self.jets.constituents, device)
        particles = len(self.jets.constituents)
        self.columns = stacked(self.jets.particles, self.names, particles).to(device)
        self.of_events = prepare.of_events(jets).to(device)
        self.target = torch.from_numpy(self.jets.labels).to(device)
        self.jets.check_unchanged()

    def gathered(self, batches: Sequence[IntArray], prepare: Preparation) -> RawBatches:
        """Batches of the jets with these numbers, one after the other, for ``prepare``.

        Raises
        ------
        IndexError
            If there is no jet of a number; a GPU would end the program.
        """
        numbers = np.concatenate(batches)
        if numbers.min() < 0 or numbers.max() >= len(self.jets):
            raise IndexError(
                f"jets {numbers.min()} to {numbers.max()} are wanted of {len(self.jets)}"
            )
        rows = self._rows(numbers)
        place, jets = upload(rows, self.device), upload(numbers, self.device)
        lengths = [self.lengths[batch] for batch in batches]
        return RawBatches(
            self.fourmomenta.index_select(0, place),
            self.columns.index_select(1, place),
            self.names,
            self._draws(rows, lengths, prepare),
            self.target.index_select(0, jets),
            tuple(moved(Packing.from_lengths(n.tolist()), self.device) for n in lengths),
            self.of_events.index_select(1, jets),
            prepare.event_columns,
        )

    def _rows(self, numbers: IntArray) -> IntArray:
        """Rows of the sample that jets own, one jet after the other: ``(T,)``."""
        lengths = self.lengths[numbers]
        ends = np.cumsum(lengths)
        return np.arange(ends[-1]) + np.repeat(self.jets.offsets[numbers] + lengths - ends, lengths)

    def _draws(
        self, rows: IntArray, lengths: Sequence[IntArray], prepare: Preparation
    ) -> torch.Tensor:
        """Random numbers of all batches, ``(augmentations, events)``, on the device."""
        if not prepare.augmentations:
            events = sum(map(len, lengths))
            return torch.empty(0, events, dtype=torch.float64, device=self.device)
        self.jets.check_unchanged()
        ends = np.cumsum([int(n.sum()) for n in lengths])
        parts: list[npt.NDArray] = np.split(self.jets.constituents[rows], ends[:-1])
        self.jets.check_unchanged()
        drawn = [prepare.draws(p, len(n)).numpy() for p, n in zip(parts, lengths, strict=True)]
        return upload(np.concatenate(drawn, axis=1), self.device)
