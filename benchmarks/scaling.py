"""What a training step costs against particles per event, events, blocks and channels."""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.compare_peer import PAPER
from benchmarks.processes import Worker

ROOT = Path(__file__).resolve().parents[1]
BASE = {"particles": 50, "events": 32, "blocks": 4, "channels": 16}
STUDIES = {
    "particles": [10, 30, 100, 300, 1000],
    "events": [16, 32, 64, 128, 256, 512, 1024],
    "blocks": [1, 2, 4, 8, 12],
    "channels": [4, 8, 16, 32, 64],
}
"""Values of each; all others are as in :data:`BASE`."""
TURN_S = 1.0
"""Seconds of steps in a turn, at least one."""


def job(particles: int, events: int, blocks: int, channels: int, device: str) -> dict[str, Any]:
    """The paper's network in other sizes, for a :class:`~benchmarks.processes.Worker`."""
    sizes = {"hidden_mv_channels": channels, "hidden_s_channels": 2 * channels}
    return {
        "network": "LGATr",
        "arguments": {**PAPER, "num_blocks": blocks, **sizes},
        "lengths": [particles] * events,
        "layout": "packed",
        "device": device,
        "dtype": "float32",
        # As in run.py: else what is measured of large batches is the system handing out memory.
        "keep_memory": True,
        "recorded": False,
    }


def _turn(worker: Worker) -> float:
    """Seconds of a step, warm: the caches are full of what another size left there."""
    worker.ask("train")
    seconds = [worker.ask("train")]
    while sum(seconds) < TURN_S:
        seconds.append(worker.ask("train"))
    return statistics.median(seconds)


Times = dict[int, list[float]]


def measure(name: str, rounds: int = 7, device: str = "cpu") -> tuple[Times, Times]:
    """A step for each value of one size, and how much longer it takes than for the value before.

    Each value has a process, and so memory, of its own. Neighbours are measured smaller, larger,
    smaller: what else the machine does, as far as it grows or fades evenly, falls on both alike.

    Returns
    -------
    Seconds by value, and factors by the larger value, of all rounds.
    """
    values = STUDIES[name]
    times: Times = {value: [] for value in values}
    factors: Times = {value: [] for value in values[1:]}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        workers = {}
        for value in values:
            worker = Worker(job(**{**BASE, name: value}, device=device), ROOT, Path(folder))
            stack.callback(worker.close)
            workers[value] = worker
        for turn in range(rounds + 1):
            print(f"{name}: round {turn} of {rounds}", file=sys.stderr)
            for small, large in pairwise(values):
                before, between, after = (_turn(workers[v]) for v in (small, large, small))
                if turn:  # the first is for warming up
                    times[small] += [before, after]
                    times[large].append(between)
                    factors[large].append(2 * between / (before + after))
    return times, factors


def study(report: dict[str, Any], out: Path | None) -> None:
    """Measure, print, and write."""
    report["base"] = BASE
    report["seconds"], report["growth"] = {}, {}
    for name in STUDIES:
        measured = measure(name, device=report["device"])
        found, ratios = ({v: statistics.median(x) for v, x in of.items()} for of in measured)
        report["seconds"][name], report["growth"][name] = found, ratios
        print(f"\n{name:>10} {'seconds':>10} {'to the one before':>18}")
        before = 0
        for value, seconds in found.items():
            ratio = f"{ratios[value]:.2f} for {value / before:.1f}" if before else ""
            print(f"{value:10} {seconds:10.4f} {ratio:>18}")
            before = value
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n")
        _plot(report["seconds"], out.with_suffix(".svg"))


def _plot(seconds: dict[str, dict[int, float]], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(seconds), figsize=(12, 3), layout="constrained")
    for axis, (name, found) in zip(axes, seconds.items(), strict=True):
        values = list(found)
        axis.loglog(values, list(found.values()), "o-", label="measured")
        last = values[-1]
        axis.loglog(values, [found[last] * v / last for v in values], ":", label="linear")
        axis.set_xlabel(name)
        axis.set_ylabel("training step (s)")
        axis.legend(fontsize=8)
    figure.savefig(target)
    plt.close(figure)
