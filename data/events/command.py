"""Whole events from Pythia 8 and FastJet: proton-proton collisions at 13 TeV, no pile-up.

    python -m data.generate ttbar --events 20000 --jets 0 --out data/ttbar.h5
    python -m data.generate zmumu --events 20000 --jets 1 --out data/zmumu.h5

``ttbar``: pairs of hadronically decaying tops and exactly ``--jets`` further jets (0 to 4).
Anti-kT, R = 0.4, pT > 22 GeV, |eta| < 5, Delta R > 0.5, two with a bottom hadron; the jets of each
top are found by the masses of W and top. ``zmumu``: a Z boson that decays to muons, and exactly
``--jets`` jets (1 to 3) of pT > 20 GeV, Delta R > 0.4. Jets are also kept as a detector would see
them (``--no-detector``: not), smeared in energy and direction.

The sample depends on ``--events`` and ``--seed`` alone, not on the number of processes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from data.atomic import remove_leftovers
from data.command import Parser
from data.errors import DataError, describe, install_hint
from data.events import files
from data.events.final_state import FloatArray
from data.events.processes import PROCESSES, detected, process_of
from data.events.simulate import make_events
from data.parallel import simulated

_FEWEST, _CHUNK = 30, 100
_SPLITS = ("train", "val", "test")
Job = tuple[str, int, int, int, int]


def make_chunk(job: Job) -> tuple[int, FloatArray]:
    """Some events. A job is (process, jets, seed, chunk number, count)."""
    name, jets, seed, number, count = job
    state = np.random.SeedSequence([seed, number, jets]).generate_state(1)[0]
    return number, make_events(process_of(name, jets), int(state % 900_000_000) + 1, count)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser("data.generate", __doc__)
    parser.add_argument("kind", choices=list(PROCESSES))
    parser.add_argument("--events", type=int, required=True, help="number of events, all splits")
    parser.add_argument("--jets", type=int, help="further jets (default: the fewest)")
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file to write")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default 1)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="parallel processes (default: all)"
    )
    parser.add_argument(
        "--split", type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar=("TRAIN", "VAL", "TEST"),
        help="shares of the splits (default 0.8 0.1 0.1)",
    )  # fmt: skip
    parser.add_argument("--no-detector", action="store_true", help="without smeared jets")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    options = parser.parse_args(arguments)
    _, numbers = PROCESSES[options.kind]
    if options.jets is None:
        options.jets = numbers[0]
    if options.jets not in numbers:
        parser.error(f"--jets must be {numbers[0]} to {numbers[-1]}, not {options.jets}")
    if options.events < _FEWEST:
        parser.error(f"--events must be at least {_FEWEST}, not {options.events}")
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, not {options.seed}")
    if options.processes is not None and options.processes < 1:
        parser.error(f"--processes must be 1 or more, not {options.processes}")
    # Written so that NaN is refused.
    if not (abs(sum(options.split) - 1) <= 1e-6 and min(options.split) > 0):
        parser.error("--split needs three positive shares that sum to 1")
    if options.out.is_dir():
        parser.error(f"{options.out} is a folder; name a file in it")
    if os.path.lexists(options.out) and not options.overwrite:
        parser.error(f"{options.out} exists; choose another name or add --overwrite")
    try:
        import fastjet  # noqa: F401
        import pythia8mc  # noqa: F401
    except ImportError as error:
        parser.error(f"{error.name} is missing; {install_hint('generate')}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Command line; the module's text describes it."""
    options = _options(arguments)
    remove_leftovers(options.out.parent, (options.out.stem,))
    process = process_of(options.kind, options.jets)
    jobs: list[Job] = [
        (options.kind, options.jets, options.seed, number, min(_CHUNK, options.events - first))
        for number, first in enumerate(range(0, options.events, _CHUNK))
    ]
    try:
        made = dict(
            simulated(
                make_chunk, jobs, lambda chunk: len(chunk[1]), options.processes, process.title,
                options.events,
            )
        )  # fmt: skip
        momenta = np.concatenate([made[number] for number in sorted(made)])
        smeared = None
        if not options.no_detector:
            smeared = detected(momenta, np.random.default_rng([options.seed, 1]))
            muons = [i for i, mass in enumerate(process.final_state.masses) if mass is not None]
            smeared[:, muons] = momenta[:, muons]
        train = round(options.split[0] * options.events)
        edges = (0, train, train + round(options.split[1] * options.events), options.events)
        splits = {}
        for name, first, last in zip(_SPLITS, edges, edges[1:], strict=False):
            seen = None if smeared is None else smeared[first:last]
            splits[name] = files.Sample(momenta[first:last], seen, process.final_state)
        settings = {
            "title": process.title, "seed": options.seed, "events": options.events,
            "generator": "Pythia 8, FastJet",
        }  # fmt: skip
        files.write(options.out, splits, settings)
    except (DataError, OSError, RuntimeError) as error:
        reason = describe(error) if isinstance(error, OSError) else error
        sys.exit(f"error: {reason}; nothing was written")
    counts = ", ".join(f"{len(part.momenta):,} {name}" for name, part in splits.items())
    print(f"{options.out}: {counts} events, {options.out.stat().st_size / 1e6:.1f} MB")
