"""Print tables of published figures, the commands that reproduce them, and our results.

    python -m experiments.reproduce [--curves FOLDER] > docs/_generated/reproduce.md

Published rows are those of ``experiments/report/published.json``; our figures are the
``metrics.json`` of runs kept as ``benchmarks/results/trainings/<task>/<network>/<seed>.json``. A
row without such a run says what it needs. Runs of unpublished tasks, on simulated jets, have tables
of their own. ``--curves`` draws ``learning_<task>.png`` from their validation curves, by step and
time (:mod:`experiments.archive_run`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.command import Parser, program
from experiments.cli import one_line_errors
from experiments.metrics.headline import headline
from experiments.options.output_paths import check_folder
from experiments.plots.curves import plot_learning
from experiments.report.archive import ARCHIVE, archived_runs, in_minutes, learning_curves
from experiments.report.comparison import Run, markdown, rows
from experiments.report.headings import heading
from experiments.report.published import all_published


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
    figure = headline(groups[0][0].results)
    sign = 1 if figure.small else -1
    body = [
        [*rows(group, figure.columns)[0], f"{parameters:,}" if parameters else "", _how(group)]
        for group in sorted(groups, key=lambda g: min(sign * run.results[figure.name] for run in g))
        for parameters in [group[0].results.get("parameters")]
    ]
    header = [
        "network",
        "runs",
        *(heading(column) for column in figure.columns),
        "parameters",
        "how",
    ]
    return f"### `experiment={task}`, simulated events\n\n{markdown(header, body)}\n"


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
        figure, curves = learning_curves(folder.name)
        if options.curves and curves:
            file = options.curves / f"learning_{folder.name}.png"
            how = f"{figure.logged_label} of the validation", figure.logarithmic, figure.span
            plot_learning(curves, "step", *how, file)
            print(f"\n```{{image}} {options.curves.name}/{file.name}\n:alt: learning curves\n```\n")
            if timed := in_minutes(folder.name, curves):
                file = options.curves / f"learning_{folder.name}_time.png"
                plot_learning(timed, "minutes of training", *how, file)
                print(f"```{{image}} {options.curves.name}/{file.name}\n:alt: by time\n```\n")


if __name__ == "__main__":
    with program():
        main()
