"""Events with exact squared amplitudes, of flat phase space with cuts.

    python -m data.generate amplitudes --process ggggg --events 100000 --out data/ggggg.h5

``zg``: q qbar -> Z g. ``gggg``, ``ggggg``: g g -> g g (g), complete at tree level. ``gggggg``:
g g -> g g g g in the MHV sector, where two gluons have one helicity and four the other. Energies in
the centre-of-mass frame are uniform; outgoing massless particles have pT > 20 GeV and are
Delta R > 0.4 apart.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.amplitudes import files
from data.amplitudes.phase_space import Cuts
from data.amplitudes.processes import PROCESSES, Events, generate
from data.atomic import remove_leftovers
from data.command import Parser
from data.errors import DataError, describe

_FEWEST = 30


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser("data.generate amplitudes", __doc__)
    parser.add_argument("--process", choices=list(PROCESSES), required=True)
    parser.add_argument("--events", type=int, required=True, help="number of events, all splits")
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file to write")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default 1)")
    parser.add_argument(
        "--energy", type=float, nargs=2, default=(500.0, 1500.0), metavar=("FROM", "TO"),
        help="bounds of the centre-of-mass energy in GeV (default 500 1500)",
    )  # fmt: skip
    parser.add_argument("--pt", type=float, default=20.0, help="smallest pT in GeV (default 20)")
    parser.add_argument("--delta-r", type=float, default=0.4, help="smallest Delta R (default 0.4)")
    parser.add_argument(
        "--split", type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar=("TRAIN", "VAL", "TEST"),
        help="shares of the splits (default 0.8 0.1 0.1)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    options = parser.parse_args(arguments)
    if options.events < _FEWEST:
        parser.error(f"--events must be at least {_FEWEST}, not {options.events}")
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, not {options.seed}")
    # Written so that NaN is refused.
    if not 0 < options.energy[0] <= options.energy[1] < 1e9:
        parser.error("--energy needs two energies above 0, the lower one first")
    if not (options.pt >= 0 and options.delta_r >= 0):
        parser.error("--pt and --delta-r must be 0 or more")
    if not (abs(sum(options.split) - 1) <= 1e-6 and min(options.split) > 0):
        parser.error("--split needs three positive shares that sum to 1")
    if options.out.is_dir():
        parser.error(f"{options.out} is a folder; name a file in it")
    if os.path.lexists(options.out) and not options.overwrite:
        parser.error(f"{options.out} exists; choose another name or add --overwrite")
    return options


def make(options: argparse.Namespace) -> Events:
    """All events, with a progress bar."""
    process, cuts = PROCESSES[options.process], Cuts(options.pt, options.delta_r)
    chunks = []
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns) as progress:
        bar = progress.add_task(process.title, total=options.events)
        for chunk in generate(process, options.events, options.seed, options.energy, cuts):
            chunks.append(chunk)
            progress.advance(bar, len(chunk.amplitudes))
    return Events(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


def main(arguments: list[str] | None = None) -> None:
    """Command line; the module's text describes it."""
    options = _options(arguments)
    remove_leftovers(options.out.parent, (options.out.stem,))
    process = PROCESSES[options.process]
    try:
        events = make(options)
        train = round(options.split[0] * options.events)
        val = train + round(options.split[1] * options.events)
        bounds = {"train": (0, train), "val": (train, val), "test": (val, options.events)}
        splits = {
            n: Events(events.momenta[a:b], events.amplitudes[a:b]) for n, (a, b) in bounds.items()
        }
        settings = {
            "title": process.title, "seed": options.seed, "events": options.events,
            "energy_from": options.energy[0], "energy_to": options.energy[1],
            "pt": options.pt, "delta_r": options.delta_r,
        }  # fmt: skip
        files.write(options.out, splits, options.process, process.types, process.masses, settings)
    except (DataError, OSError) as error:
        reason = describe(error) if isinstance(error, OSError) else error
        sys.exit(f"error: {reason}; nothing was written")
    counts = ", ".join(f"{len(part.amplitudes):,} {name}" for name, part in splits.items())
    print(f"{options.out}: {counts} events, {options.out.stat().st_size / 1e6:.1f} MB")
