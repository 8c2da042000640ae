"""Set ours beside lgatr 2.0.0: same weights, same outputs and gradients, and how much faster.

    python -m benchmarks.compare_peer [--peer DIR] [--rounds 2] [--out benchmarks/results/NAME.json]

The paper's top-tagging network on 32 events of 20 to 90 particles, float32. Both libraries run in
processes of their own, alternating; the figures are medians. Without ``--peer`` the peer is
installed into ``.peer``, beside the project's environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
PEER = "lgatr==2.0.0"
PAPER = {
    "num_blocks": 12,
    "in_mv_channels": 1,
    "out_mv_channels": 1,
    "hidden_mv_channels": 16,
    "in_s_channels": 0,
    "out_s_channels": 0,
    "hidden_s_channels": 32,
    "attention": {"num_heads": 8, "attn_ratio": 2, "head_scale": True},
    "mlp": {"mlp_ratio": 2},
}
SPARSE = {**PAPER, "primitives": {"sparse_linear": True}}
TOLERANCE = 1e-5


def install_peer(directory: Path) -> Path:
    """Install the peer beside the environment, unless it is there."""
    if not (directory / "lgatr").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", str(directory), PEER], check=True)
    return directory


def packed_batch() -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """32 ragged events as one sequence, with the dense block-diagonal mask the peer needs."""
    torch.manual_seed(0)
    lengths = torch.randint(20, 91, (32,)).tolist()
    event = torch.arange(32).repeat_interleave(torch.tensor(lengths))
    return lengths, torch.randn(1, sum(lengths), 1, 16), event[:, None] == event[None]


def padded(lengths: list[int], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same events padded to the longest, with a mask of the keys."""
    pieces = x[0].split(lengths)
    batch = torch.nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)
    keys = torch.arange(batch.shape[1])[None] < torch.tensor(lengths)[:, None]
    return batch, keys[:, None, None, :]


def run(job: dict[str, Any], path: Path) -> dict[str, Any]:
    """One job in a process whose ``lgatr`` is the one in ``path``."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "job.pt", Path(folder) / "result.pt"
        torch.save(job, source)
        command = [sys.executable, str(ROOT / "benchmarks" / "worker.py"), str(source), str(target)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(path)})
        result: dict[str, Any] = torch.load(target, weights_only=True)
    return result


def jobs(repeats: int) -> dict[str, dict[str, Any]]:
    """Ours, and the peer at its defaults and at its best eager setting."""
    lengths, x, mask = packed_batch()
    batch, keys = padded(lengths, x)
    torch.manual_seed(1)
    packed = {"seed": 1, "multivectors": x, "scalars": None, "repeats": repeats, "mask": mask}
    packed["probe"] = torch.randn(1, x.shape[1], 1, 16)
    dense = {**packed, "multivectors": batch, "mask": keys}
    dense["probe"] = padded(lengths, packed["probe"])[0]
    return {
        "peer, padded, defaults": {**dense, "arguments": PAPER},
        "peer, packed, sparse_linear": {**packed, "arguments": SPARSE},
        "ours, packed": {**packed, "arguments": PAPER, "lengths": lengths},
    }


def difference(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    """Largest deviations of outputs and gradients, relative to the largest value."""
    gradients = [
        float((ours["gradients"][k] - g).abs().max() / g.abs().max().clamp(min=1e-3))
        for k, g in peer["gradients"].items()
    ]
    outputs = (ours["outputs"] - peer["outputs"]).abs().max()
    return {"outputs": float(outputs), "gradients_relative": max(gradients)}


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--peer", type=Path, default=ROOT / ".peer", help="folder of the peer")
    parser.add_argument("--rounds", type=int, default=2, help="alternations (default 2)")
    parser.add_argument("--repeats", type=int, default=3, help="timed calls in each round")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    peer = install_peer(options.peer)
    times: dict[str, dict[str, list[float]]] = {}
    results: dict[str, dict[str, Any]] = {}
    all_jobs = jobs(options.repeats)
    weights: dict[str, Any] = {}
    for _ in range(options.rounds):
        for name, job in all_jobs.items():
            ours = name.startswith("ours")
            results[name] = run({**job, **(weights if ours else {})}, ROOT if ours else peer)
            if not ours:
                weights = {"state_dict": results[name]["state_dict"]}
            kept = times.setdefault(name, {"train": [], "inference": []})
            for kind, values in kept.items():
                values += results[name][kind]
    best = "peer, packed, sparse_linear"
    deviation = difference(results["ours, packed"], results[best])
    report: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "state_dict": "loaded with strict=True",
        "deviation": deviation,
        "rows": {
            name: {
                **{f"{kind}_s": statistics.median(v) for kind, v in kinds.items()},
                "peak_memory_gb": results[name]["peak_memory_gb"],
            }
            for name, kinds in times.items()
        },
    }
    rows = report["rows"]
    ours_row = rows["ours, packed"]
    print(f"weights of {PEER} loaded with strict=True")
    print(f"largest deviation: outputs {deviation['outputs']:.1e}, ", end="")
    print(f"gradients {deviation['gradients_relative']:.1e} (relative)")
    print(f"{'':30} {'train step':>12} {'inference':>12} {'peak memory':>12}")
    for name, row in rows.items():
        print(
            f"{name:30} {row['train_s']:10.2f} s {row['inference_s']:10.2f} s "
            f"{row['peak_memory_gb']:9.2f} GB"
        )
    for name in list(rows)[:-1]:
        train, inference = (rows[name][k] / ours_row[k] for k in ("train_s", "inference_s"))
        print(f"faster than {name}: {train:.1f}x in training, {inference:.1f}x in inference")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    if max(deviation.values()) > TOLERANCE:
        sys.exit(f"deviation exceeds {TOLERANCE}")


if __name__ == "__main__":
    main()
