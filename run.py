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
        from experiments.options.search import figure, is_search
        from experiments.training.runner import run

        how, metric = figure()
        best: float | None = run(cfg, resumption).get(f"best_val_{metric}")
        if best is None and is_search():
            raise UserError(
                f"this run validated nothing by val/{metric}, and a search {how}; give it a model "
                f"that is trained by steps, validations, and callbacks.best.monitor=val/{metric}"
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
