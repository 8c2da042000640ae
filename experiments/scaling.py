"""Fit how the test loss of runs falls with size, data or cost, and where it ends.

    python -m experiments.scaling RUN... [--against QUANTITY] [--out FOLDER]

QUANTITY is one of parameters, jets (of training), flops (of a jet, forward), seconds (of training,
for a jet); by default, each in which runs of a network differ. Runs of one kind of network are
fitted together by floor + (scale / x)^exponent (arXiv:2608.02735); seeds of one setup are points of
their own. ``--out`` gets a plot for each quantity and ``scaling.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.atomic import write_text
from data.command import Parser, program
from experiments.cli import one_line_errors
from experiments.errors import UserError
from experiments.metrics.scaling_law import FEWEST, ScalingLaw, fit
from experiments.options.output_paths import check_folder
from experiments.plots.scaling import plot_scaling
from experiments.report.comparison import Run
from experiments.saved_runs import run_directory

Quantity = Callable[[Mapping[str, Any]], float]
QUANTITIES: dict[str, tuple[str, Quantity]] = {
    "parameters": ("parameters", lambda x: float(x["parameters"])),
    "jets": ("training jets", lambda x: float(x["jets"]["train"])),
    "flops": ("operations of a jet, forward", lambda x: float(x["flops_per_jet"])),
    "seconds": ("seconds of training for a jet", lambda x: 1 / float(x["jets_per_second"])),
}
"""Label, and value in ``metrics.json``, by name."""


def points_of(runs: list[Run], quantity: str) -> dict[str, list[tuple[float, float, float]]]:
    """Value, loss and its error of each run, by kind of network.

    Raises
    ------
    UserError
        If a run does not know the quantity.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    for run in runs:
        try:
            value = QUANTITIES[quantity][1](run.results)
            loss, error = float(run.results["loss"]), float(run.results["loss_error"])
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as missing:
            raise UserError(f"{run.folder}: has no {quantity} or no loss ({missing})") from missing
        if not value > 0:
            raise UserError(f"{run.folder}: its {quantity} are {value}")
        name = run.name.rpartition(", ")[2]
        found.setdefault(name, []).append((value, loss, max(error, 1e-9)))
    return {name: sorted(points) for name, points in found.items()}


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("experiments.scaling", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--against", choices=tuple(QUANTITIES), help="one quantity")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for plots and scaling.json")
    options = parser.parse_args(arguments)
    with one_line_errors():
        if options.out is not None:
            check_folder(options.out, "--out")
        run_directory.check_no_duplicates(options.runs)
        runs = [Run.read(run) for run in options.runs]
        results: dict[str, dict[str, Any]] = {}
        wanted = (options.against,) if options.against else tuple(QUANTITIES)
        for quantity in wanted:
            points = points_of(runs, quantity)
            laws = fitted(points, needed=options.against is not None)
            if laws:
                results[quantity] = {name: asdict(law) for name, law in laws.items()}
                _print(quantity, laws)
                if options.out is not None:
                    options.out.mkdir(exist_ok=True)
                    label = QUANTITIES[quantity][0]
                    plot_scaling(points, laws, label, options.out / f"{quantity}.pdf")
                    plot_scaling(points, laws, label, options.out / f"{quantity}.png")
        if not results:
            raise UserError(
                f"no network has runs at {FEWEST} or more different sizes, numbers of jets or costs"
            )
        if options.out is not None:
            write_text(options.out / "scaling.json", json.dumps(results, indent=2) + "\n")


def fitted(
    points: Mapping[str, list[tuple[float, float, float]]], needed: bool
) -> dict[str, ScalingLaw]:
    """Laws of the networks with enough runs; ``needed`` refuses those without."""
    laws = {}
    for name, runs in points.items():
        if needed or len({x for x, *_ in runs}) >= FEWEST:
            try:
                laws[name] = fit(*zip(*runs, strict=True))
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
    return laws


def _print(quantity: str, laws: Mapping[str, ScalingLaw]) -> None:
    for name, law in laws.items():
        print(
            f"{name} against {quantity}: floor {law.floor:.4f}±{law.floor_error:.4f}, exponent "
            f"{law.exponent:.3f}±{law.exponent_error:.3f}"
        )


if __name__ == "__main__":
    with program():
        main()
