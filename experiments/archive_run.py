"""Copy a finished run's metrics and curves to ``benchmarks/results``.

    python -m experiments.archive_run RUN... --name NETWORK --data "the public data set"

writes ``benchmarks/results/trainings/<task>/<name>/<seed>.json``, the run's ``metrics.json``, and
``<seed>_curve.csv``, its validations by step. ``python -m experiments.reproduce`` reads both.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

from data.atomic import atomic_path
from data.command import Parser
from data.signals import one_line_interrupts
from experiments.cli import one_line_errors
from experiments.errors import UserError
from experiments.reproduce import RUNS
from experiments.saved_runs.curves import read_curves
from experiments.saved_runs.run_directory import CONFIG, METRICS, check_different
from experiments.saved_runs.saved_config import load_config, read_metrics

CURVES = ("auc", "loss", "accuracy")
"""Of the validations."""


def keep(run: Path, name: str, data: str, task: str | None = None) -> Path:
    """Keep a run.

    Parameters
    ----------
    run
        Its folder.
    name
        Of the network, as in the published table where there is one.
    data
        What it was trained and tested on, in words.
    task
        Default: the name of the run's experiment.

    Returns
    -------
    The file with its figures.

    Raises
    ------
    UserError
        If the run is not finished or damaged, another one of its seed is kept, or a name is a path.
    """
    if not ((run / METRICS).is_file() and (run / CONFIG).is_file()):
        raise UserError(f"{run}: no finished run; it lacks {METRICS} or {CONFIG}")
    for option, value in (("--name", name), ("--task", task)):
        if value is not None and (not value.strip() or Path(value).name != value):
            raise UserError(f"{option} {value!r}: a name of a folder, without slashes, is needed")
    results = read_metrics(run / METRICS)
    try:
        seed = int(results["seed"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{run / METRICS}: damaged, or of another program; run again") from error
    task = task or str(load_config(run, build=False).get("name"))
    if Path(task).name != task:
        raise UserError(f"{run / CONFIG}: name={task} is no name of a folder; give --task")
    folder = RUNS / task / name
    target = folder / f"{seed}.json"
    results["data"] = data
    text = json.dumps(results, indent=2) + "\n"
    if target.exists() and target.read_text(encoding="utf-8") != text:
        raise UserError(f"{target}: another run of this seed is kept; remove it first")
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    _write_curves(run, folder / f"{seed}_curve.csv")
    return target


def _write_curves(run: Path, target: Path) -> None:
    found = read_curves(run / "logs" / "csv")
    curves = {f"val_{name}": found.get(f"val/{name}", {}) for name in CURVES}
    steps = sorted(set().union(*curves.values()))
    if not steps:  # networks that are not trained by steps
        return
    with atomic_path(target) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", *curves])
        for step in steps:  # loggers count from 0
            values = (curve.get(step) for curve in curves.values())
            writer.writerow([step + 1, *("" if v is None else f"{v:.6f}" for v in values)])


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("experiments.archive_run", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--name", required=True, help="network, as in the table")
    parser.add_argument("--data", required=True, help="what it was trained and tested on")
    parser.add_argument("--task", help="default: the name of the run's experiment")
    options = parser.parse_args(arguments)
    with one_line_errors():
        check_different(options.runs)
        for run in options.runs:
            print(keep(run, options.name, options.data, options.task))


if __name__ == "__main__":
    with one_line_interrupts():
        main()
