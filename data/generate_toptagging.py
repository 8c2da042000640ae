"""Simulate a top-tagging sample with Pythia 8 and FastJet.

    python -m data.generate_toptagging --jets 5000 --seed 1 --out top.h5

Proton-proton collisions at 14 TeV, without multiple parton interactions and without detector
simulation. Signal: hadronically decaying tops from pair production; background: QCD dijets.
Visible stable particles within |eta| < 5 are clustered with anti-kT, R = 0.8; a jet is kept if
550 < pT < 650 GeV and |eta| < 2, a signal jet only if a top and its three decay quarks lie
within Delta R < 0.8 of its axis. At most one jet per event, half signal and half background.

The sample depends on ``--jets`` and ``--seed`` alone: each chunk of jets has its own random
sequence, so the number of processes does not matter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.errors import describe
from data.formats import packed
from data.jets import FloatArray, Jets

COLLISION_ENERGY = 14_000.0  # GeV
RADIUS = 0.8
JET_PT = (550.0, 650.0)  # GeV
JET_ETA = 2.0
PARTICLE_ETA = 5.0
CHUNK = 100  # jets of one class made with one generator

COMMON = [
    "Beams:idA = 2212",
    "Beams:idB = 2212",
    f"Beams:eCM = {COLLISION_ENERGY}",
    "PartonLevel:MPI = off",
    "PhaseSpace:pTHatMin = 475",
    "PhaseSpace:pTHatMax = 850",
    "Print:quiet = on",
    "Random:setSeed = on",
]
PROCESS = {
    1: ["Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off", "24:onIfAny = 1 2 3 4 5"],
    0: ["HardQCD:all = on"],
}

Event = npt.NDArray[np.float64]


def _generator(label: int, seed: int):  # type: ignore[no-untyped-def]
    import pythia8mc

    pythia = pythia8mc.Pythia("", False)
    for line in [*COMMON, *PROCESS[label], f"Random:seed = {seed}"]:
        pythia.readString(line)
    if not pythia.init():
        raise RuntimeError("Pythia refused its settings")
    return pythia


def _delta_r(a, b) -> float:  # type: ignore[no-untyped-def]
    phi = abs(a.phi() - b.phi())
    return float(np.hypot(a.eta() - b.eta(), min(phi, 2 * np.pi - phi)))


def _top_quarks(event) -> Iterator[list]:  # type: ignore[no-untyped-def, type-arg]
    """For each top of an event: the top and its three decay quarks."""
    for index in range(event.size()):
        top = event[index]
        if top.idAbs() != 6 or top.iBotCopyId() != index:
            continue
        quarks, boson = [], None
        for daughter in top.daughterList():
            if event[daughter].idAbs() == 24:
                boson = event[event[daughter].iBotCopyId()]
            else:
                quarks.append(event[daughter])
        if boson is not None:
            quarks += [event[d] for d in boson.daughterList() if event[d].idAbs() < 6]
        if len(quarks) == 3:
            yield [top, *quarks]


def _visible(event) -> Event:  # type: ignore[no-untyped-def]
    """Stable visible particles within the acceptance, ``(n, 4)`` as (E, px, py, pz)."""
    rows = [
        (p.e(), p.px(), p.py(), p.pz())
        for p in event
        if p.isFinal() and p.isVisible() and abs(p.eta()) < PARTICLE_ETA
    ]
    return np.array(rows).reshape(-1, 4)


def _jet(event, label: int) -> FloatArray | None:  # type: ignore[no-untyped-def]
    """The constituents of the leading accepted jet of an event, by falling pT."""
    import fastjet

    particles = [fastjet.PseudoJet(px, py, pz, e) for e, px, py, pz in _visible(event)]
    sequence = fastjet.ClusterSequence(
        particles, fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
    )
    tops = list(_top_quarks(event)) if label else []
    for jet in fastjet.sorted_by_pt(sequence.inclusive_jets(JET_PT[0])):
        if jet.pt() > JET_PT[1] or abs(jet.eta()) > JET_ETA:
            continue
        axis = _Axis(jet.eta(), jet.phi_std())
        if label and not any(all(_delta_r(p, axis) < RADIUS for p in top) for top in tops):
            continue
        parts = fastjet.sorted_by_pt(jet.constituents())
        return np.array([(p.e(), p.px(), p.py(), p.pz()) for p in parts], dtype=np.float32)
    return None


class _Axis:
    """A direction with the two methods :func:`_delta_r` asks for."""

    def __init__(self, eta: float, phi: float) -> None:
        self._eta, self._phi = eta, phi

    def eta(self) -> float:
        return self._eta

    def phi(self) -> float:
        return self._phi


def make_chunk(job: tuple[int, int, int, int]) -> tuple[int, int, list[FloatArray]]:
    """Make ``count`` jets of one class. A job is (seed, chunk number, label, count)."""
    seed, number, label, count = job
    state = np.random.SeedSequence([seed, number, label]).generate_state(1)[0]
    pythia = _generator(label, int(state % 900_000_000) + 1)
    jets: list[FloatArray] = []
    while len(jets) < count:
        if pythia.next():
            jet = _jet(pythia.event, label)
            if jet is not None:
                jets.append(jet)
    return number, label, jets


def round_mantissa(values: FloatArray, bits: int) -> FloatArray:
    """Round float32 numbers to ``bits`` mantissa bits, so that they compress better."""
    drop = 23 - bits
    if drop <= 0:
        return values
    integers = values.view(np.uint32)
    half = np.uint32(1 << (drop - 1))
    mask = np.uint32((0xFFFFFFFF << drop) & 0xFFFFFFFF)
    return ((integers + half) & mask).view(np.float32)


def generate(jets: int, seed: int, processes: int) -> list[tuple[int, FloatArray]]:
    """``jets`` labelled jets, half of each class, in an order fixed by ``seed``."""
    want = {1: jets // 2, 0: jets - jets // 2}
    jobs = [
        (seed, number, label, min(CHUNK, total - number * CHUNK))
        for label, total in want.items()
        for number in range(-(-total // CHUNK))
    ]
    made: dict[tuple[int, int], list[FloatArray]] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    context = multiprocessing.get_context("spawn")
    with Progress(*columns) as progress, context.Pool(processes) as pool:
        bar = progress.add_task("Simulating jets", total=jets)
        for number, label, chunk in pool.imap_unordered(make_chunk, jobs):
            made[label, number] = chunk
            progress.advance(bar, len(chunk))
    sample = [(label, jet) for (label, _), chunk in sorted(made.items()) for jet in chunk]
    order = np.random.default_rng([seed, jets]).permutation(len(sample))
    return [sample[i] for i in order]


def pack(sample: list[tuple[int, FloatArray]], name: str, bits: int) -> Jets:
    """Join jets into one ragged array."""
    offsets = np.cumsum([0, *(len(jet) for _, jet in sample)])
    constituents = np.concatenate([jet for _, jet in sample]) if sample else np.zeros((0, 4), "f4")
    labels = np.array([label for label, _ in sample], dtype=np.int64)
    return Jets(round_mantissa(constituents, bits), offsets, labels, name)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m data.generate_toptagging", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--jets", type=int, required=True, help="number of jets, all splits")
    parser.add_argument("--out", type=Path, required=True, help="packed HDF5 file to write")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default 1)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="parallel processes (default: all)"
    )
    parser.add_argument(
        "--split",
        type=float,
        nargs=3,
        default=(0.7, 0.1, 0.2),
        metavar=("TRAIN", "VAL", "TEST"),
        help="shares of the splits (default 0.7 0.1 0.2)",
    )
    parser.add_argument(
        "--mantissa-bits",
        type=int,
        default=23,
        help="keep this many mantissa bits, fewer compress better (default 23: all)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    options = parser.parse_args(arguments)
    if options.jets < 10:
        parser.error(f"--jets must be at least 10, not {options.jets}")
    if not 8 <= options.mantissa_bits <= 23:
        parser.error(f"--mantissa-bits must be 8 to 23, not {options.mantissa_bits}")
    if abs(sum(options.split) - 1) > 1e-6 or min(options.split) <= 0:
        parser.error("--split needs three positive shares that sum to 1")
    if options.out.exists() and not options.overwrite:
        parser.error(f"{options.out} exists; choose another name or add --overwrite")
    try:
        import fastjet  # noqa: F401
        import pythia8mc  # noqa: F401
    except ImportError as error:
        parser.error(f"{error.name} is missing; install it by: pip install 'lgatr[generate]'")

    sample = generate(options.jets, options.seed, options.processes)
    train = round(options.split[0] * len(sample))
    val = train + round(options.split[1] * len(sample))
    bounds = {"train": (0, train), "val": (train, val), "test": (val, len(sample))}
    settings = {
        "seed": options.seed,
        "jets": options.jets,
        "mantissa_bits": options.mantissa_bits,
        "generator": "Pythia 8, FastJet",
        "settings": json.dumps({"common": COMMON, "signal": PROCESS[1], "background": PROCESS[0]}),
        "selection": f"anti-kT R={RADIUS}, {JET_PT[0]}<pT<{JET_PT[1]} GeV, |eta|<{JET_ETA}",
    }
    splits = {
        name: pack(sample[low:high], name, options.mantissa_bits)
        for name, (low, high) in bounds.items()
    }
    try:
        packed.write(options.out, splits, settings)
    except OSError as error:
        sys.exit(f"error: {describe(error)}; nothing was written")
    counts = ", ".join(f"{len(jets)} {name}" for name, jets in splits.items())
    print(f"{options.out}: {counts} jets, {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
