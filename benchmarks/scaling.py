"""What a training step costs against particles per event, events, blocks and channels."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.compare_peer import PAPER
from lgatr import LGATr, Packing
from lgatr.utils.memory import keep_freed_memory

BASE = {"particles": 50, "events": 32, "blocks": 4, "channels": 16}
STUDIES = {
    "particles": [10, 30, 100, 300, 1000],
    "events": [16, 64, 256, 512, 1024, 2048],
    "blocks": [1, 2, 4, 8, 12],
    "channels": [4, 8, 16, 32, 64],
}
"""Values of each; all others are as in :data:`BASE`."""


def step(particles: int, events: int, blocks: int, channels: int) -> Callable[[], None]:
    """A training step of the paper's network in other sizes."""
    sizes = {"hidden_mv_channels": channels, "hidden_s_channels": 2 * channels}
    torch.manual_seed(0)
    net = LGATr(**{**PAPER, "num_blocks": blocks, **sizes})
    packing = Packing.from_lengths([particles] * events)
    x = torch.randn(packing.num_tokens, 1, 16)

    def run() -> None:
        net.zero_grad(set_to_none=True)
        net(x, packing=packing)[0].square().mean().backward()

    return run


def measure(name: str, rounds: int = 9) -> dict[int, list[float]]:
    """Seconds of a step in each round for each value of one size; values take turns.

    A turn is one step that nobody counts, for it finds in the caches what the value before left
    there (a step of a training follows one of its own size), and then a second of steps.
    """
    runs = {value: step(**{**BASE, name: value}) for value in STUDIES[name]}
    times: dict[int, list[float]] = {value: [] for value in runs}
    for _ in range(rounds):
        for value, run in runs.items():
            run()
            steps, start = 0, time.perf_counter()
            while steps == 0 or time.perf_counter() - start < 1.0:
                run()
                steps += 1
            times[value].append((time.perf_counter() - start) / steps)
    return times


def growth(times: dict[int, list[float]]) -> dict[int, float]:
    """How much longer a value takes than the one before: the median over rounds.

    Within a round, what else the machine does falls on neighbours alike.
    """
    values = list(times)
    return {
        value: statistics.median(a / b for a, b in zip(times[value], times[last], strict=True))
        for last, value in pairwise(values)
    }


def study(report: dict[str, Any], out: Path | None) -> None:
    """Measure, print, and write."""
    # As in run.py: else what is measured of large batches is the system handing out memory.
    report["memory_kept"] = keep_freed_memory()
    report["base"] = BASE
    report["seconds"], report["growth"] = {}, {}
    for name in STUDIES:
        print(f"{name} …", file=sys.stderr)
        times = measure(name)
        found = {value: statistics.median(seconds) for value, seconds in times.items()}
        ratios = growth(times)
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
