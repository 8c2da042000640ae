"""Train, test and report an experiment: ``python run.py experiment=toptagging``."""

from __future__ import annotations

import sys
from typing import Any

from data.command import program


def start(cfg: Any, resumption: Any = None) -> float | None:
    """One run; returns the best validation, which a search for hyperparameters improves."""
    from experiments import cli

    cli.quiet_libraries()
    cli.one_line_warnings()
    with cli.one_line_errors():
        # Imported here, so that a mistake on the command line is answered at once.
        from experiments.errors import UserError
        from experiments.metrics.headline import headline
        from experiments.options.search import is_search, what_it_does
        from experiments.training.runner import run

        results = run(cfg, resumption)
        figure = headline(results)
        best: float | None = results.get(f"best_val_{figure.logged}")
        if best is None and is_search():
            raise UserError(
                f"this run validated nothing by val/{figure.logged}, and {what_it_does(figure)}; "
                "give it a model that is trained by steps, validations, and "
                f"callbacks.best.monitor=val/{figure.logged}"
            )
    return best


def main(arguments: list[str]) -> None:
    """Command line."""
    import hydra

    from experiments import cli
    from experiments.training import resume

    if resume.is_requested(arguments):
        with cli.one_line_errors():
            cfg, resumption = resume.plan(arguments)
        start(cfg, resumption)
        return
    sys.argv[1:] = cli.check_command_line(arguments)
    hydra.main(version_base="1.3", config_path=str(cli.CONFIG_DIR), config_name="run")(start)()


if __name__ == "__main__":
    with program():
        main(sys.argv[1:])
