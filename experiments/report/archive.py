"""Results of finished runs that are kept with the code, in ``benchmarks/results/trainings``.

One run is ``<task>/<network>/<seed>.json``, its ``metrics.json``, and ``<seed>_curve.csv``, its
validations by step.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from data.atomic import write_text
from experiments.errors import UserError
from experiments.metrics.headline import AUC, HEADLINES, Headline
from experiments.options.markers import FolderName
from experiments.report.comparison import Run
from experiments.saved_runs.curves import Curve, read_curves
from experiments.saved_runs.metrics_file import read_metrics
from experiments.saved_runs.run_directory import CONFIG, METRICS
from experiments.saved_runs.saved_config import load_config

ARCHIVE = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "trainings"
_FOLDER = FolderName()
TimedCurve = dict[float, float]


def archive(run: Path, name: str, data: str, task: str | None = None) -> Path:
    """Copy the metrics and curves of a run to the archive.

    Parameters
    ----------
    run
        Folder of a finished run.
    name
        Name of the network, as in the published table where there is one.
    data
        Description of the sample that it was trained and tested on.
    task
        Name of the task. Default: that of the run's experiment.

    Returns
    -------
    The file with the metrics.

    Raises
    ------
    UserError
        If the run is unfinished or damaged, another run with its seed is archived, or a name is no
        folder name.
    """
    if not ((run / METRICS).is_file() and (run / CONFIG).is_file()):
        raise UserError(f"{run}: no finished run; it lacks {METRICS} or {CONFIG}")
    for option, value in (("--name", name), ("--task", task)):
        if value is not None and not _FOLDER.holds(value):
            raise UserError(f"{option} {value!r}: must be {_FOLDER}")
    results = read_metrics(run / METRICS, ("seed",))
    seed = results["seed"]
    task = task or str(load_config(run, build=False).get("name"))
    if not _FOLDER.holds(task):
        raise UserError(f"{run / CONFIG}: name={task} must be {_FOLDER}; give --task")
    folder = ARCHIVE / task / name
    target = folder / f"{seed}.json"
    results["data"] = data
    text = json.dumps(results, indent=2) + "\n"
    if target.exists() and target.read_text(encoding="utf-8") != text:
        raise UserError(f"{target}: another run of this seed is kept; remove it first")
    write_text(target, text)
    _write_curves(run, folder / f"{seed}_curve.csv")
    return target


def _write_curves(run: Path, target: Path) -> None:
    found = read_curves(run / "logs" / "csv")
    of_validations = {n: curve for n, curve in found.items() if n.startswith("val/") and curve}
    curves = {name.replace("/", "_"): of_validations[name] for name in sorted(of_validations)}
    steps = sorted(set().union(*curves.values()))
    if not steps:  # models that are not trained by steps
        return
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["step", *curves])
    for step in steps:  # loggers count from 0
        values = (curve.get(step) for curve in curves.values())
        writer.writerow([step + 1, *("" if v is None else f"{v:.6g}" for v in values)])
    write_text(target, lines.getvalue())


def archived_runs(task: str, network: str) -> list[Run]:
    """All archived runs of a network."""
    found = []
    for file in sorted((ARCHIVE / task / network).glob("*.json")):
        results = read_metrics(file, ("data", "device"))
        if "training_seconds" in results:
            results["training_hours"] = results["training_seconds"] / 3600
        found.append(Run(network, task, {}, results))
    return found


def in_minutes(task: str, curves: Mapping[str, list[Curve]]) -> dict[str, list[TimedCurve]]:
    """Curves of :func:`learning_curves` by minutes of training, of runs whose time is known."""
    found: dict[str, list[TimedCurve]] = {}
    for name, seeds in curves.items():
        files = sorted((ARCHIVE / task / name).glob("*_curve.csv"))
        for file, curve in zip(files, seeds, strict=True):
            results = file.with_name(file.name.replace("_curve.csv", ".json"))
            noted = read_metrics(results) if results.is_file() else {}
            if noted.get("training_seconds") and noted.get("steps"):
                minutes = noted["training_seconds"] / noted["steps"] / 60
                timed = {minutes * step: value for step, value in curve.items()}
                found.setdefault(name, []).append(timed)
    return found


def learning_curves(task: str) -> tuple[Headline, dict[str, list[Curve]]]:
    """Validations of the figure of merit by step of every archived run, by network."""
    found: dict[str, list[Curve]] = {}
    figure = AUC
    for file in sorted((ARCHIVE / task).glob("*/*_curve.csv")):
        with file.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        figure = next((h for h in HEADLINES if rows and f"val_{h.logged}" in rows[0]), figure)
        column = f"val_{figure.logged}"
        curve = {int(row["step"]): float(row[column]) for row in rows if row.get(column)}
        found.setdefault(file.parent.name, []).append(curve)
    return figure, found
