"""How much memory a training step takes for each particle, and the largest batch that fits.

    python -m benchmarks.memory [--out FILE.json]

Every batch runs in a process of its own, whose peak is asked of the operating system (on CUDA: of
torch). Two batches give what a particle costs; what is left of the memory, divided by that, is the
largest batch.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.compare_peer import PAPER
from benchmarks.machine import description
from benchmarks.speed import ROOT, SLIM
from data.command import Parser, program

EVENTS = (64, 256)
PARTICLES = 50
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "lgatr": ("LGATr", PAPER),
    "slim": ("LGATrSlim", SLIM),
}
MEMORY_GB = (16, 24, 80, 141)


def peak(network: str, arguments: dict[str, Any], events: int, device: str) -> int:
    """Bytes at the peak of two training steps; runs in a process of its own."""
    import lgatr

    net = getattr(lgatr, network)(**arguments).to(device)
    packing = lgatr.Packing.from_lengths([PARTICLES] * events, device)
    inputs = net.random_inputs(packing.num_tokens)
    for _ in range(2):
        outputs = [out for out in net(*inputs, packing=packing) if out is not None]
        sum(out.square().sum() for out in outputs).backward()
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(model: str, checkpoint: bool, device: str) -> dict[str, Any]:
    """Peaks, bytes per particle, and the largest batches."""
    network, arguments = MODELS[model]
    arguments = {**arguments, "checkpoint_blocks": checkpoint}
    peaks = {}
    for events in EVENTS:
        job = json.dumps([network, arguments, events, device])
        command = [sys.executable, "-m", "benchmarks.memory", "--job", job]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        peaks[events] = int(done.stdout)
    few, many = EVENTS
    per_particle = (peaks[many] - peaks[few]) / ((many - few) * PARTICLES)
    fixed = peaks[few] - few * PARTICLES * per_particle
    largest = {gb: int((gb * 1e9 - fixed) / per_particle) for gb in MEMORY_GB}
    return {"peak_bytes": peaks, "bytes_per_particle": per_particle, "largest_batch": largest}


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("benchmarks.memory", __doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        print(peak(*json.loads(options.job)))
        return
    report: dict[str, Any] = {**description(), "device": options.device, "particles": PARTICLES}
    report["models"] = {}
    columns = "".join(f"{f'{gb} GB':>10}" for gb in MEMORY_GB)
    print(f"{'':24}{'kB/particle':>12}{columns}   particles in the largest batch")
    for model in MODELS:
        for checkpoint in (False, True):
            name = f"{model}, checkpoint_blocks" if checkpoint else model
            row = report["models"][name] = measure(model, checkpoint, options.device)
            sizes = "".join(f"{n:10,}" for n in row["largest_batch"].values())
            print(f"{name:24}{row['bytes_per_particle'] / 1e3:12.1f}{sizes}", flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    with program():
        main()
