"""Print a table of runs and published figures in Markdown or LaTeX.

    python -m experiments.compare RUN... [--latex] [--no-published] [--ensemble] [--curve FILE]

Runs that differ only in their seed are one row: mean ± standard deviation over seeds. A row of one
run has statistical errors instead. Rows are named by the options in which they differ.
``--ensemble`` adds a row for the mean of the seeds' probabilities; ``--curve`` draws the AUC
against the number of training jets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.command import Parser, program
from experiments.cli import one_line_errors
from experiments.options.output_paths import check_figure
from experiments.plots.efficiency import plot_data_efficiency
from experiments.report.comparison import Run, data_efficiency, latex, markdown, table
from experiments.saved_runs import run_directory


def _folders(given: Sequence[Path]) -> list[Path]:
    """Run directories, without those of a --multirun itself.

    Raises
    ------
    UserError
        If a run is given twice.
    """
    folders = [run for run in given if not (run / "multirun.yaml").is_file()]
    run_directory.check_no_duplicates(folders)
    return folders


def _notes(body: list[list[str]], runs: list[Run], ensemble: bool) -> Iterator[str]:
    """Notes about the table."""
    cells = [row[0] for row in body]
    if any(cell.endswith("* (published)") for cell in cells):
        yield "* Lorentz-equivariant."
    if any(cell.endswith("(published)") for cell in cells):
        data = sorted({str(run.results.get("data")) for run in runs})
        yield (
            f"Published figures are of the public data set; these runs were tested on "
            f"{', '.join(data)}. Compare them only if that is the same sample."
        )
    if ensemble and not any(cell.endswith(", ensemble") for cell in cells):
        yield "--ensemble: no row has two or more runs that differ in their seed alone."


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("experiments.compare", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--latex", action="store_true", help="LaTeX instead of Markdown")
    parser.add_argument("--no-published", action="store_true", help="leave out published figures")
    parser.add_argument("--ensemble", action="store_true", help="rows for ensembles of seeds")
    parser.add_argument("--curve", type=Path, metavar="FILE", help="plot of data efficiency")
    options = parser.parse_args(arguments)
    with one_line_errors():
        if options.curve is not None:
            check_figure(options.curve, "--curve")
        runs = [Run.read(run) for run in _folders(options.runs)]
        header, body = table(runs, not options.no_published, options.ensemble)
        if options.curve is not None:
            figure, curves = data_efficiency(runs)
            plot_data_efficiency(curves, figure.label, figure.logarithmic, options.curve)
    print((latex if options.latex else markdown)(header, body))
    for note in _notes(body, runs, options.ensemble):
        print(f"note: {note}", file=sys.stderr)


if __name__ == "__main__":
    with program():
        main()
