"""Print tables of published figures, the commands that reproduce them, and our results.

    python -m experiments.reproduce [--curves FOLDER] > docs/_generated/reproduce.md

Published rows are those of ``experiments/report/published.json``; our figures are the
``metrics.json`` of runs kept as ``benchmarks/results/trainings/<task>/<network>/<seed>.json``. A
row without such a run says what it needs. Runs of unpublished tasks, on simulated jets, have tables
of their own. ``--curves`` draws ``learning_<task>.png`` from their validation curves
(:mod:`experiments.archive_run`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.command import Parser, program
from experiments.cli import one_line_errors
from experiments.options.output_paths import check_folder
from experiments.plots.curves import plot_learning
from experiments.report.archive import ARCHIVE, archived_runs, learning_curves
from experiments.report.comparison import Run, heading, markdown, rows
from experiments.report.published import COLUMNS, all_published


def _how(runs: list[Run]) -> str:
    """Number, data, device and date of runs."""
    results = runs[0].results
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"{count}, {results['data']}, {results['device']}, {results.get('date', 'no date')}"


def table(task: str, entry: dict[str, Any]) -> str:
    """The table of a published task in Markdown."""
    columns = entry["columns"]
    without = entry.get("without_command", "no adapter here")
    body = []
    for row in entry["rows"]:
        name = row["network"] + ("*" if row["equivariant"] else "")
        command = f"`{row['command']}`" if "command" in row else without
        body.append([name, "published", *row["values"], command])
        kept = archived_runs(entry.get("runs", task), row["network"])
        if kept:
            ours = rows(kept, columns)[0][2:]
            body.append(["", "here", *ours, _how(kept)])
        elif "command" in row:
            body.append(["", "here", *["–"] * len(columns), f"not run: needs {entry['needs']}"])
    header = ["network", "", *(heading(column) for column in columns), "command, or how"]
    sources = f"{entry['title']}; {entry['sources']}. * Lorentz-equivariant."
    return f"### {entry['title']}\n\n{sources}\n\n{markdown(header, body)}\n"


def unpublished(task: str) -> str:
    """The table of archived runs of an unpublished task in Markdown."""
    names = [folder.name for folder in sorted((ARCHIVE / task).iterdir()) if folder.is_dir()]
    groups = [archived_runs(task, name) for name in names]
    body = [
        [*rows(group, COLUMNS)[0], f"{parameters:,}" if parameters else "", _how(group)]
        for group in sorted(groups, key=lambda g: -max(run.results["auc"] for run in g))
        for parameters in [group[0].results.get("parameters")]
    ]
    header = ["network", "runs", *(heading(column) for column in COLUMNS), "parameters", "how"]
    return f"### `experiment={task}`, simulated jets\n\n{markdown(header, body)}\n"


def main(arguments: list[str] | None = None) -> None:
    """Print the page's tables; draw its curves where asked."""
    parser = Parser("experiments.reproduce", __doc__)
    parser.add_argument("--curves", type=Path, metavar="FOLDER", help="folder for the plots")
    options = parser.parse_args(arguments)
    if options.curves is not None:
        with one_line_errors():
            check_folder(options.curves, "--curves")
    known = all_published()
    print("\n".join(table(task, entry) for task, entry in known.items()))
    for folder in sorted(ARCHIVE.iterdir()):
        if folder.is_dir() and folder.name not in known:
            print(f"\n{unpublished(folder.name)}")
        curves = learning_curves(folder.name) if options.curves else {}
        if curves:
            file = options.curves / f"learning_{folder.name}.png"
            plot_learning(curves, "AUC of the validation", file)
            print(f"\n```{{image}} {options.curves.name}/{file.name}\n:alt: learning curves\n```\n")


if __name__ == "__main__":
    with program():
        main()
