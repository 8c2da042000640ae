"""Copy a finished run's metrics and curves to ``benchmarks/results``.

    python -m experiments.archive_run RUN... --name NETWORK --data "SAMPLE" [--task NAME]

writes ``benchmarks/results/trainings/<task>/<name>/<seed>.json`` and ``<seed>_curve.csv``, which
``python -m experiments.reproduce`` reads.
"""

from __future__ import annotations

from pathlib import Path

from data.command import Parser, program
from experiments.cli import one_line_errors
from experiments.report.archive import archive
from experiments.saved_runs.run_directory import check_no_duplicates


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("experiments.archive_run", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--name", required=True, help="network, as in the table")
    parser.add_argument("--data", required=True, help="sample it was trained and tested on")
    parser.add_argument("--task", help="default: the name of the run's experiment")
    options = parser.parse_args(arguments)
    with one_line_errors():
        check_no_duplicates(options.runs)
        for run in options.runs:
            print(archive(run, options.name, options.data, options.task))


if __name__ == "__main__":
    with program():
        main()
