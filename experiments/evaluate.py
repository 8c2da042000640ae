"""Test a finished run on another sample.

    python -m experiments.evaluate RUN --data FILE [--name NAME]

tests the weights that the run tested (the best of its validations, or the last if there were none)
on the test jets of FILE, prints the metrics, and writes them to ``RUN/evaluation_NAME.json`` (NAME
defaults to that of the file). Results are never overwritten: a number is added to the name. Trees
are not saved with a run and are trained again on its jets, with the same result.
"""

from __future__ import annotations

from pathlib import Path

from data.command import Parser, program
from experiments.cli import add_trust, one_line_errors, one_line_warnings, quiet_libraries
from experiments.errors import UserError
from experiments.report.published import value_with_error
from experiments.saved_runs.trust import check_trust
from experiments.training.evaluation import check_name, evaluate, write_results
from lgatr.utils.memory import keep_freed_memory


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("experiments.evaluate", __doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--data", required=True, help="sample whose test jets are taken")
    parser.add_argument("--name", help="of the file of results (default: that of the sample)")
    add_trust(parser)
    options = parser.parse_args(arguments)
    quiet_libraries()
    one_line_warnings()
    keep_freed_memory()
    with one_line_errors():
        name = None if options.name is None else check_name(options.name)
        if name is not None and (options.run / f"evaluation_{name}.json").exists():
            raise UserError(f"evaluation_{name}.json: exists; choose another --name")
        check_trust(options.trust)
        results = evaluate(options.run, options.data, options.trust)
        target = write_results(options.run, name, options.data, results)
    for name in [n for n in results if f"{n}_error" in results]:
        print(f"{name:>24}  {value_with_error(results, name)}")
    print(f"Written: {target}")


if __name__ == "__main__":
    with program():
        main()
