"""Print a table of runs and published figures in Markdown or LaTeX.

    python -m experiments.compare RUN... [--latex] [--no-published] [--ensemble] [--curve FILE]
        [--plots FOLDER]

Runs that differ only in their seed are one row: mean ± standard deviation over seeds. A row of one
run has statistical errors instead. Rows are named by the options in which they differ.
``--ensemble`` adds a row for the mean of the seeds' probabilities; ``--curve`` draws the AUC
against the number of training jets, and ``--plots`` the ROC curves of all runs over each other, and
their validations.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.command import Parser, program
from experiments.cli import one_line_errors
from experiments.errors import UserError
from experiments.metrics.headline import headline
from experiments.metrics.scores import Scores
from experiments.options.output_paths import check_figure, check_folder
from experiments.plots.efficiency import plot_data_efficiency
from experiments.plots.overlay import plot_rocs, plot_validations
from experiments.report.comparison import Run, data_efficiency, latex, markdown, table
from experiments.saved_runs import run_directory
from experiments.saved_runs.curves import read_curves


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


def _overlay(runs: Sequence[Run], folder: Path) -> None:
    """Draw runs over each other."""
    figure = headline(runs[0].results)
    folders = {_label(run, runs): run.folder for run in runs if run.folder is not None}
    scores = {}
    for name, place in folders.items():
        if (place / run_directory.SCORES).is_file():
            found, _ = Scores.load(place / run_directory.SCORES)
            if found.logits.dim() == 1:
                scores[name] = found
    if scores:
        plot_rocs(scores, folder)
    curves = {n: read_curves(p / "logs" / "csv").get(f"val/{figure.logged}") for n, p in
              folders.items()}  # fmt: skip
    known = {name: curve for name, curve in curves.items() if curve}
    if known:
        plot_validations(known, figure.logged_label, figure.logarithmic, folder)
    if not scores and not known:
        raise UserError("--plots: these runs have neither scores of two classes nor validations")


def _label(run: Run, runs: Sequence[Run]) -> str:
    """A name that tells a run from the others: its network, or its folder as well."""
    network = run.name.rpartition(", ")[2]
    alike = [other for other in runs if other.name == run.name]
    folder = "" if run.folder is None else run.folder.name
    return network if len(alike) == 1 else f"{network}, {folder}"


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("experiments.compare", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--latex", action="store_true", help="LaTeX instead of Markdown")
    parser.add_argument("--no-published", action="store_true", help="leave out published figures")
    parser.add_argument("--ensemble", action="store_true", help="rows for ensembles of seeds")
    parser.add_argument("--curve", type=Path, metavar="FILE", help="plot of data efficiency")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="runs over each other")
    options = parser.parse_args(arguments)
    with one_line_errors():
        if options.plots is not None:
            check_folder(options.plots, "--plots")
        if options.curve is not None:
            check_figure(options.curve, "--curve")
        runs = [Run.read(run) for run in _folders(options.runs)]
        header, body = table(runs, not options.no_published, options.ensemble)
        if options.curve is not None:
            figure, curves = data_efficiency(runs)
            plot_data_efficiency(curves, figure.label, figure.logarithmic, options.curve)
        if options.plots is not None:
            options.plots.mkdir(exist_ok=True)
            _overlay(runs, options.plots)
    print((latex if options.latex else markdown)(header, body))
    for note in _notes(body, runs, options.ensemble):
        print(f"note: {note}", file=sys.stderr)


if __name__ == "__main__":
    with program():
        main()
