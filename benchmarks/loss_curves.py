"""The same training with and without the kernels: their loss curves must be one curve.

    python -m benchmarks.loss_curves [--steps 400] [--out FILE.json]

Trains ``experiment=toptagging`` from one seed on torch operations in float64, on torch operations
in float32, and on the kernels in float32.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import description
from benchmarks.speed import ROOT
from data.command import Parser, program

WAYS = {
    "torch operations, float64": ("0", "64-true"),
    "torch operations, float32": ("0", "32-true"),
    "kernels, float32": ("1", "32-true"),
}


def train(native: str, precision: str, steps: int, directory: Path) -> dict[str, list[float]]:
    """Training and validation losses of a run."""
    command = [
        sys.executable, "run.py", "experiment=toptagging", f"run_dir={directory}",
        f"trainer.max_steps={steps}", f"trainer.val_check_interval={max(steps // 8, 1)}",
        f"trainer.precision={precision}", "trainer.log_every_n_steps=1",
    ]  # fmt: skip
    environment = {**os.environ, "LGATR_NATIVE": native}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    (table,) = directory.glob("logs/csv/**/metrics.csv")
    found: dict[str, list[float]] = {"loss": [], "val/loss": [], "val/auc": []}
    with table.open() as file:
        for row in csv.DictReader(file):
            for name, values in found.items():
                if row.get(name):
                    values.append(float(row[name]))
    return found


def largest_difference(a: list[float], b: list[float]) -> float:
    """Between two curves."""
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def plot(curves: dict[str, dict[str, list[float]]], target: Path) -> None:
    """Validation loss of all ways."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    for (name, curve), style in zip(curves.items(), ("-", "--", ":"), strict=True):
        axis.plot(range(1, len(curve["val/loss"]) + 1), curve["val/loss"], style, label=name)
    axis.set_xlabel("validation")
    axis.set_ylabel("validation loss")
    axis.legend(fontsize=8)
    figure.savefig(target)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("benchmarks.loss_curves", __doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, help="JSON file for the curves; a plot beside it")
    options = parser.parse_args(arguments)
    curves: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (native, precision)) in enumerate(WAYS.items()):
            print(f"{name} …", file=sys.stderr)
            curves[name] = train(native, precision, options.steps, Path(folder, str(number)))
    reference, *others = curves
    for name in others:
        differences = {
            key: largest_difference(curves[name][key], curves[reference][key])
            for key in curves[name]
        }
        shown = ", ".join(f"{key} {value:.1e}" for key, value in differences.items())
        print(f"{name}: largest difference to float64: {shown}")
    if options.out:
        report: dict[str, Any] = {**description(), "steps": options.steps, "curves": curves}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report) + "\n")
        plot(curves, options.out.with_suffix(".svg"))


if __name__ == "__main__":
    with program():
        main()
