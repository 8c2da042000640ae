"""Simulate jets of several classes with Pythia 8 and FastJet.

    python -m data.generate toptagging --jets 20000 --out data/top.h5
    python -m data.generate jetclass --jets 20000 --out data/jetclass.h5
    python -m data.generate quarkgluon --jets 20000 --out data/quarkgluon.h5

``toptagging``: hadronically decaying tops against QCD dijets, four-momenta alone, as in the public
data set; anti-kT, R = 0.8, 550 < pT < 650 GeV, |eta| < 2, the top's quarks within 0.8 of the axis.
``jetclass``: the ten classes of JetClass; anti-kT, R = 0.8, 500 < pT < 1000 GeV, |eta| < 2, the
products of the decay within Delta R < 0.8 of the axis. ``quarkgluon``: jets beside a Z boson that
decays to neutrinos; R = 0.4, 500 < pT < 550 GeV, |eta| < 1.7. Particles have identities and
displacements; see :mod:`data.simulation` for what is not simulated.

``python -m data.generate amplitudes --help`` tells of events with exact amplitudes, and
``python -m data.generate ttbar --help`` of whole events with top quarks or Z bosons.

The sample depends on ``--jets`` and ``--seed`` alone, not on the number of processes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data.amplitudes import command as amplitudes
from data.atomic import remove_leftovers
from data.command import Parser, program
from data.errors import DataError, describe, install_hint
from data.events import command as events
from data.events.processes import PROCESSES
from data.formats import known_samples, packed, quark_gluon
from data.jets import BINARY, FloatArray, Jets
from data.parallel import simulated
from data.simulation import COLUMNS, Process, Selection, SimulatedJet, make_jets

_QUARKS = "1 2 3 4 5"
_TOP = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off")
_HIGGS = ("HiggsSM:ffbar2HZ = on", "23:onMode = off", "23:onIfAny = 12 14 16", "25:onMode = off")
_HIGGS_WW = (*_HIGGS, "25:onIfMatch = 24 -24", "24:onMode = off")
_Z_AND_JET = ("23:onMode = off", "WeakZ0:gmZmode = 2")


@dataclass(frozen=True)
class Kind:
    """A data set that can be simulated: its classes in the order of their labels."""

    processes: dict[str, Process]
    selection: Selection
    columns: tuple[str, ...] = COLUMNS
    chunk: int = 50  # jets of one class made with one generator


KINDS = {
    "toptagging": Kind(
        {
            "background": Process(("HardQCD:all = on",)),
            "signal": Process((*_TOP, f"24:onIfAny = {_QUARKS}"), 6),
        },
        Selection(0.8, (550.0, 650.0), 2.0, pt_hat=(475.0, 850.0)),
        columns=COLUMNS[:4],
        chunk=100,
    ),
    "jetclass": Kind(
        {
            "QCD": Process(("HardQCD:all = on",)),
            "Hbb": Process((*_HIGGS, "25:onIfMatch = 5 -5"), 25),
            "Hcc": Process((*_HIGGS, "25:onIfMatch = 4 -4"), 25),
            "Hgg": Process((*_HIGGS, "25:onIfMatch = 21 21"), 25),
            "H4q": Process((*_HIGGS_WW, f"24:onIfAny = {_QUARKS}"), 25),
            "Hqql": Process(
                (*_HIGGS_WW, f"24:onPosIfAny = {_QUARKS}", "24:onNegIfAny = 11 13"), 25
            ),
            "Zqq": Process(
                (
                    "WeakBosonAndParton:qqbar2gmZg = on", "WeakBosonAndParton:qg2gmZq = on",
                    *_Z_AND_JET, f"23:onIfAny = {_QUARKS}",
                ),
                23,
            ),
            "Wqq": Process(
                (
                    "WeakBosonAndParton:qqbar2Wg = on", "WeakBosonAndParton:qg2Wq = on",
                    "24:onMode = off", f"24:onIfAny = {_QUARKS}",
                ),
                24,
            ),
            "Tbqq": Process((*_TOP, f"24:onIfAny = {_QUARKS}"), 6),
            "Tbl": Process((*_TOP, "24:onIfAny = 11 13"), 6),
        },
        Selection(0.8, (500.0, 1000.0), 2.0, energy=13_000.0),
    ),
    "quarkgluon": Kind(
        {
            "gluon": Process(
                ("WeakBosonAndParton:qqbar2gmZg = on", *_Z_AND_JET, "23:onIfAny = 12 14 16")
            ),
            "quark": Process(
                ("WeakBosonAndParton:qg2gmZq = on", *_Z_AND_JET, "23:onIfAny = 12 14 16")
            ),
        },
        Selection(0.4, (500.0, 550.0), 1.7),
    ),
}  # fmt: skip

assert tuple(KINDS["toptagging"].processes) == BINARY
assert tuple(KINDS["jetclass"].processes) == known_samples()["jetclass"].classes
assert tuple(KINDS["quarkgluon"].processes) == quark_gluon.CLASSES

Job = tuple[str, int, int, int, int]


def make_chunk(job: Job) -> tuple[int, int, list[SimulatedJet]]:
    """Some jets of one class. A job is (kind, seed, label, chunk number, count)."""
    name, seed, label, number, count = job
    kind = KINDS[name]
    process = list(kind.processes.values())[label]
    state = np.random.SeedSequence([seed, number, label]).generate_state(1)[0]
    pythia_seed = int(state % 900_000_000) + 1
    return label, number, make_jets(process, kind.selection, pythia_seed, count)


def generate(
    name: str, jets: int, seed: int, processes: int
) -> tuple[list[int], list[SimulatedJet]]:
    """``jets`` jets and their labels, equally many of each class, in an order fixed by seed."""
    classes, chunk_size = len(KINDS[name].processes), KINDS[name].chunk
    each = [jets // classes + (label < jets % classes) for label in range(classes)]
    jobs = [
        (name, seed, label, number, min(chunk_size, total - number * chunk_size))
        for label, total in enumerate(each)
        for number in range(-(-total // chunk_size))
    ]
    done = simulated(
        make_chunk, jobs, lambda chunk: len(chunk[2]), processes, "Simulating jets", jets
    )
    made = {(label, number): chunk for label, number, chunk in done}
    sample = [(label, jet) for (label, _), chunk in sorted(made.items()) for jet in chunk]
    order = np.random.default_rng([seed, jets]).permutation(len(sample))
    return [sample[i][0] for i in order], [sample[i][1] for i in order]


def round_mantissa(values: FloatArray, bits: int) -> FloatArray:
    """Round float32 numbers to ``bits`` mantissa bits, so that they compress better."""
    drop = 23 - bits
    if drop <= 0:
        return values
    integers = values.view(np.uint32)
    half = np.uint32(1 << (drop - 1))
    mask = np.uint32((0xFFFFFFFF << drop) & 0xFFFFFFFF)
    return ((integers + half) & mask).view(np.float32)


def pack(labels: list[int], made: list[SimulatedJet], kind: Kind, name: str, bits: int) -> Jets:
    """Join jets into one ragged sample, with numbers rounded to ``bits`` mantissa bits."""
    width, tables = len(COLUMNS), [jet.table for jet in made]
    masses = np.array([jet.true_mass for jet in made], dtype=np.float32)
    table = round_mantissa(np.concatenate([np.zeros((0, width), np.float32), *tables]), bits)
    further = range(4, len(kind.columns))
    return Jets(
        np.ascontiguousarray(table[:, :4]),
        np.cumsum([0, *map(len, tables)]),
        np.array(labels, dtype=np.int64),
        name,
        tuple(kind.processes),
        {kind.columns[i]: np.ascontiguousarray(table[:, i]) for i in further},
        {"true_mass": round_mantissa(masses, bits)},
    )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, checked before anything is generated."""
    parser = Parser("data.generate", __doc__)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--jets", type=int, required=True, help="number of jets, all splits")
    parser.add_argument("--out", type=Path, required=True, help="packed HDF5 file to write")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default 1)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="parallel processes (default: all)"
    )
    parser.add_argument(
        "--split", type=float, nargs=3, default=(0.7, 0.1, 0.2), metavar=("TRAIN", "VAL", "TEST"),
        help="shares of the splits (default 0.7 0.1 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--mantissa-bits", type=int, default=23,
        help="keep this many mantissa bits, fewer compress better (default 23: all)",
    )  # fmt: skip
    parser.add_argument("--compress", action="store_true", help="smaller, and slower to read")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    options = parser.parse_args(arguments)
    kind = KINDS[options.kind]
    if options.jets < 10 * len(kind.processes):
        parser.error(f"--jets must be at least {10 * len(kind.processes)}, not {options.jets}")
    if not 8 <= options.mantissa_bits <= 23:
        parser.error(f"--mantissa-bits must be 8 to 23, not {options.mantissa_bits}")
    # Written so that NaN is refused.
    if not (abs(sum(options.split) - 1) <= 1e-6 and min(options.split) > 0):
        parser.error("--split needs three positive shares that sum to 1")
    if options.processes is not None and options.processes < 1:
        parser.error(f"--processes must be 1 or more, not {options.processes}")
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, not {options.seed}")
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
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["amplitudes"]:
        amplitudes.main(arguments[1:])
        return
    if arguments[:1] and arguments[0] in PROCESSES:
        events.main(arguments)
        return
    options = _options(arguments)
    kind = KINDS[options.kind]
    remove_leftovers(options.out.parent, (options.out.stem,))
    try:
        labels, made = generate(options.kind, options.jets, options.seed, options.processes)
    except RuntimeError as error:
        sys.exit(f"error: {error}; nothing was written")
    train = round(options.split[0] * len(labels))
    val = train + round(options.split[1] * len(labels))
    bounds = {"train": (0, train), "val": (train, val), "test": (val, len(labels))}
    settings = {
        "seed": options.seed,
        "jets": options.jets,
        "mantissa_bits": options.mantissa_bits,
        "generator": "Pythia 8, FastJet",
        "settings": json.dumps({name: p.settings for name, p in kind.processes.items()}),
        "selection": json.dumps(asdict(kind.selection)),
    }
    splits = {
        name: pack(labels[a:b], made[a:b], kind, name, options.mantissa_bits)
        for name, (a, b) in bounds.items()
    }
    try:
        packed.write(options.out, splits, settings, compress=options.compress)
    except (DataError, OSError) as error:
        reason = describe(error) if isinstance(error, OSError) else error
        sys.exit(f"error: {reason}; nothing was written")
    counts = ", ".join(f"{len(jets)} {name}" for name, jets in splits.items())
    print(f"{options.out}: {counts} jets, {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    with program():
        main()
