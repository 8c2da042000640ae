"""Ours beside lgatr 2.0.0: training step, inference, peak memory and first step.

    python -m benchmarks.speed [--models lgatr slim] [--rounds 9] [--out FILE.json]
    python -m benchmarks.speed --scaling [--out FILE.json]
    python -m benchmarks.speed --profile

"Memory kept" is after :func:`lgatr.utils.memory.keep_freed_memory`, as in ``run.py``. Every network
runs in a process of its own; all are kept alive and measured in turn, so that what else the machine
does falls on all of them. The figures are medians. Batches are 32 events of 20 to 90 particles.
Without ``--peer`` the peer is installed into ``.peer``, beside the environment.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.compare_peer import PAPER, install_peer
from benchmarks.machine import description
from benchmarks.processes import Worker
from data.command import Parser, program

ROOT = Path(__file__).resolve().parents[1]
SLIM = {
    "num_blocks": 12,
    "in_v_channels": 1,
    "out_v_channels": 1,
    "hidden_v_channels": 32,
    "in_s_channels": 1,
    "out_s_channels": 1,
    "hidden_s_channels": 96,
    "num_heads": 8,
    "mlp_ratio": 4,
}
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lgatr": ("LGATr", PAPER, {"primitives": {"sparse_linear": True}}),
    "slim": ("LGATrSlim", SLIM, {}),
}
"""Class, arguments, and the peer's fastest settings."""


def batch_lengths(events: int = 32) -> list[int]:
    """Particles of each event: 20 to 90, always the same."""
    return torch.randint(20, 91, (events,), generator=torch.Generator().manual_seed(0)).tolist()


def jobs(model: str, options: argparse.Namespace, peer: Path) -> dict[str, tuple[dict, Path]]:
    """What is compared, and the library that each runs on."""
    network, arguments, best = MODELS[model]
    common = {
        "network": network,
        "lengths": batch_lengths(options.events),
        "device": options.device,
        "dtype": options.dtype,
        "layout": "packed",
        "keep_memory": False,
        "recorded": False,
    }
    ours = {**common, "arguments": arguments}
    fast = {**common, "arguments": {**arguments, **best}}
    found = {
        "ours": (ours, ROOT),
        "peer, padded, defaults": ({**ours, "layout": "padded"}, peer),
        "peer, packed, best settings": (fast, peer),
    }
    if torch.device(options.device).type == "cuda":
        found["peer, packed, defaults"] = (ours, peer)
        if options.dtype == "float32":
            found["ours, CUDA graph"] = ({**ours, "recorded": True}, ROOT)
            found["peer, packed, best, CUDA graph"] = ({**fast, "recorded": True}, peer)
    else:
        found["ours, memory kept"] = ({**ours, "keep_memory": True}, ROOT)
        found["peer, packed, best, memory kept"] = ({**fast, "keep_memory": True}, peer)
    if not options.quick:
        compiled = {**fast, "arguments": {**fast["arguments"], "compile": True}}
        found["peer, packed, compiled"] = (compiled, peer)
        found["ours, compiled"] = ({**ours, "arguments": {**arguments, "compile": True}}, ROOT)
    ways = options.ways or list(found)
    if "ours" not in ways or set(ways) - set(found):
        sys.exit(f"error: --ways takes ours and any of: {'; '.join(found)}")
    return {name: job for name, job in found.items() if name in ways}


def compare(model: str, options: argparse.Namespace, peer: Path) -> dict[str, dict[str, float]]:
    """Medians of each way, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        workers: dict[str, Worker] = {}
        rows: dict[str, dict[str, Any]] = {}
        for name, (job, library) in jobs(model, options, peer).items():
            print(f"{model}: {name}, first step …", file=sys.stderr)
            worker = Worker(job, library, Path(folder))
            try:
                rows[name] = {f"{k}_s": worker.ask(k) for k in ("import", "first")}
            except RuntimeError as error:
                print(f"{model}: {name} left out: {error}", file=sys.stderr)
                continue
            workers[name] = worker
        times: dict[str, dict[str, list[float]]] = {
            name: {"train": [], "inference": []} for name in workers
        }
        for kind in ("train", "inference"):
            for turn in range(options.rounds + 1):
                print(f"{model}: {kind}, round {turn} of {options.rounds}", file=sys.stderr)
                for name, worker in workers.items():
                    seconds = worker.ask(kind)
                    if turn:  # the first is for warming up
                        times[name][kind].append(seconds)
            if kind == "train":
                for name, worker in workers.items():
                    rows[name]["peak_memory_gb"] = worker.ask("memory")
        for name, worker in workers.items():
            worker.close()
            for kind, values in times[name].items():
                rows[name][f"{kind}_s"] = statistics.median(values)
                rows[name][f"{kind}_all_s"] = values
    return rows


def show(model: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print the table of one model, and how much faster ours is."""
    columns = ("train_s", "inference_s", "peak_memory_gb", "first_s")
    print(f"\n{model:34}" + "".join(f"{c:>16}" for c in columns) + f"{'ours faster by':>28}")
    own = rows["ours"]
    for name, row in rows.items():
        train, inference = (row[c] / own[c] for c in ("train_s", "inference_s"))
        ratios = f"{train:.1f}x, {inference:.1f}x"
        print(f"{name:34}" + "".join(f"{row[c]:16.3f}" for c in columns) + f"{ratios:>28}")


def plot(report: dict[str, Any], target: Path) -> None:
    """Bars of training step, inference and memory, one panel for each model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = {
        "train_s": "training step (s)",
        "inference_s": "inference (s)",
        "peak_memory_gb": "GB",
    }
    models = report["models"]
    figure, axes = plt.subplots(
        len(models), 3, figsize=(11, 2.2 * len(models) + 0.6), squeeze=False, layout="constrained"
    )
    for line, (model, rows) in zip(axes, models.items(), strict=True):
        for axis, (column, title) in zip(line, columns.items(), strict=True):
            values = [row[column] for row in rows.values()]
            colours = ["C0" if name.startswith("ours") else "0.6" for name in rows]
            axis.barh(list(rows), values, color=colours)
            axis.invert_yaxis()
            axis.set_title(f"{model}: {title}", fontsize=9)
            axis.tick_params(labelsize=8)
            if column != "train_s":
                axis.set_yticklabels([])
    figure.savefig(target)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("benchmarks.speed", __doc__)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--events", type=int, default=32, help="events in a batch (default 32)")
    parser.add_argument("--rounds", type=int, default=9, help="timed turns (default 9)")
    parser.add_argument("--ways", nargs="+", help="rows of the table to measure (default all)")
    parser.add_argument("--quick", action="store_true", help="leave out what is compiled")
    parser.add_argument("--peer", type=Path, default=ROOT / ".peer" / "lgatr-2.0.0")
    parser.add_argument("--out", type=Path, help="JSON file for the figures; a plot beside it")
    parser.add_argument("--scaling", action="store_true", help="cost against size, ours alone")
    parser.add_argument("--profile", action="store_true", help="time by operation, and its floor")
    options = parser.parse_args(arguments)
    if min(options.events, options.rounds) < 1:
        sys.exit("error: --events and --rounds must be at least 1")
    report: dict[str, Any] = {
        **description(),
        "device": options.device,
        "dtype": options.dtype,
        "events": options.events,
    }
    if options.scaling:
        from benchmarks.scaling import study

        study(report, options.out)
        return
    if options.profile:
        from benchmarks.floors import profile

        for model in options.models:
            profile(model, options.events, options.device)
        return
    peer = install_peer(options.peer)
    report["models"] = {model: compare(model, options, peer) for model in options.models}
    for model, rows in report["models"].items():
        show(model, rows)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")
        plot(report, options.out.with_suffix(".svg"))


if __name__ == "__main__":
    with program():
        main()
