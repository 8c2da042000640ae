"""How fast jets are read, from ROOT files and from what ``data.convert`` makes of them.

    python -m benchmarks.reading [--files 10] [--jets 5000] [--out FILE.json]

Writes files in JetClass' layout (the shipped simulated jets, again and again, by uproot), converts
them, and streams both through the training loader in one process: jets per second, and the memory
of the process while it passes over the files.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import description
from benchmarks.speed import ROOT
from data.command import Parser, program
from data.convert import main as convert
from data.formats import find_format, known_samples, read_jets
from data.jets import Jets
from experiments.data.chunk_stream import JetStream, Shards
from experiments.data.features import SETS
from experiments.data.preparation import Preparation


def write_root(path: Path, jets: Jets) -> None:
    """Jets in JetClass' layout."""
    import awkward as ak
    import uproot

    def jagged(values: np.ndarray) -> Any:
        return ak.unflatten(values, jets.lengths)

    known = known_samples()["jetclass"].description
    momenta = enumerate(known.momenta.values())
    branches = {branch.text: jagged(jets.constituents[:, i]) for i, branch in momenta}
    for name, field in known.particles.items():
        branches[field.text] = jagged(np.asarray(jets.particles[name]))
    for label, name in enumerate(known.classes):
        branches[f"label_{name}"] = (jets.labels == label).astype(np.int32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        types = {name: v.type if hasattr(v, "layout") else v.dtype for name, v in branches.items()}
        file.mktree("tree", types)
        file["tree"].extend(branches)


def megabytes() -> float:
    """Memory of this process now (of its peak where the system does not tell)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(path: Path, jets: int) -> dict[str, Any]:
    """Jets per second alone and as batches in training order; the memory after each tenth."""
    shards = Shards.find(find_format(path), path, "train", False)
    stream = JetStream(shards, Preparation(SETS["default"], 128), 512, 2000, 5, seed=1)
    start = time.perf_counter()
    for chunk in stream.chunks:
        # Mapped files are read when they are looked at.
        np.array(shards.read(chunk).constituents)
    alone = jets / (time.perf_counter() - start)
    seen, memory, start = 0, [], time.perf_counter()
    for batch in stream:
        seen += len(batch)
        if seen >= (len(memory) + 1) * jets / 10:
            memory.append(megabytes())
        if seen >= jets:
            break
    rate = seen / (time.perf_counter() - start)
    return {"read_per_second": alone, "jets_per_second": rate, "memory_mb": memory}


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("benchmarks.reading", __doc__)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--jets", type=int, default=5000, help="of each file (default 5000)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    sample = read_jets(ROOT / "data" / "jetclass_mini.h5", "train")
    report: dict[str, Any] = {**description(), "files": options.files, "jets": options.jets}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "root"), Path(folder, "packed")
        for number in range(options.files):
            chosen = np.random.default_rng(number).integers(0, len(sample), options.jets)
            write_root(source / "train_100M" / f"mixed_{number:03}.root", sample.select(chosen))
        convert([str(source), str(target)])
        for name, path in (("ROOT", source), ("packed", target)):
            found = report[name] = measure(path, options.files * options.jets)
            memory = ", ".join(f"{value:.0f}" for value in found["memory_mb"])
            alone, rate = found["read_per_second"], found["jets_per_second"]
            print(
                f"{name:8}read and checked {alone:9,.0f} jets/s, as batches with features "
                f"{rate:9,.0f} jets/s, memory {memory} MB"
            )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    with program():
        main()
